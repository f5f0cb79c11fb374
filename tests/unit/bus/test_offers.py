"""Offers: which the guest sees, in which order, under which relid."""

import struct
from uuid import UUID

import msgspec
import pytest

from tests.unit.bus.script import CONTACT, Script, asked, refusals, sent
from vmbusd.abi import device_link, layout, messages
from vmbusd.bus.channels import State
from vmbusd.bus.effects import AskHost, FillSlot, SendToGuest, SetState
from vmbusd.bus.options import BusOptions

ACCEPTED = device_link.OfferResult(1, 0, b"")


def offers(sent_: list[msgspec.Struct]) -> list[messages.Offer]:
    return [message for message in sent_ if isinstance(message, messages.Offer)]


def test_offers_before_contact_come_in_the_first_list() -> None:
    """Three offers, then one ALL_OFFERS_DELIVERED (case 032)."""
    script = Script()
    for offer_id in (1, 2, 3):
        assert script.offer(offer_id) == [AskHost(0, device_link.OfferResult(offer_id, 0, b""))]
    script.guest(CONTACT)

    *first, last = sent(script.guest(messages.RequestOffers()))

    assert [offer.child_relid for offer in offers(first)] == [1, 2, 3]
    assert last == messages.AllOffersDelivered()


def test_no_offers() -> None:
    """The list may be empty (case 033)."""
    assert sent(Script().connect())[1:] == [messages.AllOffersDelivered()]


def test_offers_are_sent_once() -> None:
    """A second REQUEST_OFFERS is refused (case 034)."""
    script = Script()
    script.connect()

    assert refusals(script.guest(messages.RequestOffers())) == ["wrong state"]


def test_hot_add() -> None:
    """After REQUEST_OFFERS an offer is sent at once and alone; before, it waits for the list (case 035)."""
    script = Script()
    script.offer(1)
    script.guest(CONTACT)
    assert sent(script.offer(2)) == []
    assert len(offers(sent(script.guest(messages.RequestOffers())))) == 2

    effects = script.offer(3)

    assert [type(effect) for effect in effects] == [AskHost, FillSlot, SetState, SendToGuest]
    assert [offer.child_relid for offer in offers(sent(effects))] == [3]


def test_what_an_offer_says() -> None:
    """Relid, connection id with SINT 2, dedicated, no monitor; sizes and index unchanged (cases 036, 043)."""
    script = Script()
    data = bytes(range(120))
    interface, instance = UUID(int=7), UUID(int=8)
    script.host(device_link.Offer(1, interface, instance, 0x11, 3, 64, 16, user_defined=data))

    effects = script.connect()

    assert offers(sent(effects)) == [
        messages.Offer(
            interface, instance, 0, 0, 0x11, 64, data, 3, 16, 1, monitorid=0xFF, monitor_allocated=0,
            is_dedicated_interrupt=1, connection_id=0x2001,
        )
    ]  # fmt: skip
    assert [effect for effect in effects if isinstance(effect, FillSlot)] == [
        FillSlot(1, 1, 0, 0x2001, layout.NO_MONITOR, 0x11, interface, instance, 3, 1)
    ]


def test_flags_of_features_that_were_not_granted() -> None:
    """Exactly the confidential and pinning flags are cleared (case 042)."""
    script = Script()
    script.host(device_link.Offer(1, UUID(int=1), UUID(int=1), 0xFFFF))

    (offer,) = offers(sent(script.connect()))

    assert offer.chn_flags == 0xFFF1


def test_the_order_of_the_list() -> None:
    """By interface, then order with none last, then instance; GUIDs compare as numbers (case 037)."""
    script = Script()
    none = device_link.NO_ORDER
    made = [(3, 3, none), (10, 10, none), (5, 5, none), (17, 17, none), (5, 6, 2), (5, 8, 1), (5, 1, none)]
    for offer_id, (interface, instance, order) in enumerate(made):
        script.host(device_link.Offer(offer_id, UUID(int=interface), UUID(int=instance), order=order))

    listed = offers(sent(script.connect()))

    assert [offer.child_relid for offer in listed] == [1, 2, 3, 4, 5, 6, 7]
    assert [(offer.if_type.int, offer.if_instance.int) for offer in listed] == [
        (3, 3), (5, 8), (5, 6), (5, 1), (5, 5), (10, 10), (17, 17),
    ]  # fmt: skip


def test_a_key_that_lives() -> None:
    """The same key again is refused and the guest sees nothing; another index is accepted (case 040)."""
    script = Script()
    script.connect()
    script.host(device_link.Offer(1, UUID(int=1), UUID(int=1)))

    (again,) = script.host(device_link.Offer(2, UUID(int=1), UUID(int=1)))
    other = script.host(device_link.Offer(3, UUID(int=1), UUID(int=1), subchannel_index=1))

    assert isinstance(again, AskHost)
    assert isinstance(again.message, device_link.OfferResult)
    assert again.message.status == messages.UNSUCCESSFUL
    assert b"already exists" in again.message.text
    assert [offer.sub_channel_index for offer in offers(sent(other))] == [1]


def test_an_offer_id_that_lives() -> None:
    """A host names each of its living offers differently; two hosts may use the same id."""
    script = Script()
    script.links.add(1)
    script.offer(1)

    (again,) = asked(script.host(device_link.Offer(1, UUID(int=9), UUID(int=9))))
    (other,) = asked(script.host(device_link.Offer(1, UUID(int=9), UUID(int=9)), host=1))

    assert isinstance(again, device_link.OfferResult)
    assert b"offer id 1 is in use" in again.text
    assert other == ACCEPTED


def test_an_offer_withdrawn_before_the_guest_asks() -> None:
    """The guest sees neither offer nor rescind (case 044)."""
    script = Script()
    script.offer(1)
    script.guest(CONTACT)

    assert script.host(device_link.Revoke(1)) == [AskHost(0, device_link.Revoked(1))]
    assert sent(script.guest(messages.RequestOffers())) == [messages.AllOffersDelivered()]


def test_as_many_as_there_are_relids() -> None:
    """2047 offers work, one more is refused, and one withdrawn makes room (case 306)."""
    script = Script()
    for offer_id in range(1, 2048):
        assert asked(script.offer(offer_id)) == [device_link.OfferResult(offer_id, 0, b"")]

    (refused,) = asked(script.offer(2048))
    assert isinstance(refused, device_link.OfferResult)
    assert refused.text == b"too many channels"
    assert [o.child_relid for o in offers(sent(script.connect()))] == list(range(1, 2048))
    script.host(device_link.Revoke(5))
    assert b"too many" in asked(script.offer(2048))[0].text  # type: ignore[union-attr]
    script.guest(messages.RelidReleased(5))
    assert [o.child_relid for o in offers(sent(script.offer(2048)))] == [5]


def test_the_status_view() -> None:
    """Every channel with what a person asks first."""
    script = Script()
    script.offer(1)
    assert [(c.relid, c.state, c.host) for c in script.bus.channels()] == [(0, "client_released", 0)]
    script.connect()
    script.opened(vp=3)

    (view,) = script.bus.channels()

    assert (view.relid, view.flag, view.state, view.target_vp, view.generation) == (1, 1, "open", 3, 1)
    assert (view.interface, view.instance, view.subchannel) == (UUID(int=1), UUID(int=1), 0)
    assert script.state_of() is State.OPEN


def test_absolute_order() -> None:
    """The order comes first, then interface, then instance; an offer without one is last (case 038)."""
    script = Script(BusOptions(absolute_order=True))
    made = [(3, 3, 6), (10, 10, 5), (5, 5, 4), (17, 17, 3), (5, 6, 2), (5, 8, 1), (5, 1, None)]
    for offer_id, (interface, instance, order) in enumerate(made, 1):
        guids = UUID(int=interface), UUID(int=instance)
        number = device_link.NO_ORDER if order is None else order
        script.host(device_link.Offer(offer_id, *guids, order=number))

    listed = offers(sent(script.connect()))

    assert [(offer.if_type.int, offer.if_instance.int) for offer in listed] == [
        (5, 8),
        (5, 6),
        (17, 17),
        (5, 5),
        (10, 10),
        (3, 3),
        (5, 1),
    ]
    assert [offer.child_relid for offer in listed] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("flag", "mode"), [("PIPE", 0), ("MESSAGE_PIPE", 4)])
def test_pipes(flag: str, mode: int) -> None:
    """The pipe flag is set; user_defined is the type, 112 bytes of the device, and the flags (case 041)."""
    script = Script()
    data = bytes(range(112))
    pipe = device_link.OfferFlag[flag]
    script.host(
        device_link.Offer(1, UUID(int=1), UUID(int=1), 1, flags=pipe, user_defined=data, pipe_flags=1)
    )

    (offer,) = offers(sent(script.connect()))

    assert offer.chn_flags == 0x11
    assert offer.user_defined == struct.pack("<I112sI", mode, data, 1)


def test_relid_offset() -> None:
    """The first relid is the offset plus one and so much less fits (case 307)."""
    script = Script(BusOptions(relid_offset=100))
    for offer_id in range(1, 1948):
        script.offer(offer_id)

    (refused,) = asked(script.offer(1948))

    assert isinstance(refused, device_link.OfferResult)
    assert refused.text == b"too many channels"
    assert [offer.child_relid for offer in offers(sent(script.connect()))] == list(range(101, 2048))
