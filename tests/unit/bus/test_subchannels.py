"""Subchannels: enabled by the device of an open primary, and gone with it."""

from uuid import UUID

import pytest

from tests.unit.bus.script import Script, asked, refusals, sent
from vmbusd.abi import device_link, messages
from vmbusd.bus.effects import CloseSlot, Disconnected, Effect

NIC, CARD = UUID(int=7), UUID(int=70)


def enable(script: Script, count: int, *, generation: int = 1, first: int = 11) -> list[Effect]:
    return script.host(device_link.EnableSubchannels(1, generation, count, first))


def answer(effects: list[Effect]) -> device_link.SubchannelsEnabled:
    (only,) = [each for each in asked(effects) if isinstance(each, device_link.SubchannelsEnabled)]
    return only


def indices(effects: list[Effect]) -> list[tuple[int, int]]:
    """(relid, index) of the channels offered."""
    offers = [message for message in sent(effects) if isinstance(message, messages.Offer)]
    assert all((offer.if_type, offer.if_instance) == (NIC, CARD) for offer in offers)
    return [(offer.child_relid, offer.sub_channel_index) for offer in offers]


def rescinded(effects: list[Effect]) -> list[int]:
    return [message.child_relid for message in sent(effects) if isinstance(message, messages.Rescind)]


@pytest.fixture
def script() -> Script:
    """An open primary that may have three subchannels."""
    script = Script()
    script.host(device_link.Offer(1, NIC, CARD, max_subchannels=3))
    script.connect()
    script.opened()
    return script


@pytest.fixture
def three(script: Script) -> Script:
    """The same with three, relids 2 to 4, offer ids 11 to 13."""
    enable(script, 3)
    return script


def test_enable(script: Script) -> None:
    """Each is offered with the primary's ids, its own relid and index (case 111)."""
    effects = enable(script, 3)

    assert indices(effects) == [(2, 1), (3, 2), (4, 3)]
    assert [each.offer_id for each in asked(effects)] == [11, 12, 13, 1]  # type: ignore[union-attr]
    assert answer(effects) == device_link.SubchannelsEnabled(1, 0, 3, b"")


def test_too_many(script: Script) -> None:
    """More than the maximum is an error and nothing is offered (case 112)."""
    effects = enable(script, 4)

    assert answer(effects).status == messages.UNSUCCESSFUL
    assert answer(effects).text == b"4 subchannels, at most 3"
    assert sent(effects) == []


def test_fewer_than_there_are(three: Script) -> None:
    """It changes nothing (case 112)."""
    effects = enable(three, 2)

    assert answer(effects) == device_link.SubchannelsEnabled(1, 0, 3, b"")
    assert sent(effects) == []


def test_more_step_by_step(script: Script) -> None:
    """Only those missing are offered."""
    enable(script, 1)

    assert indices(enable(script, 3)) == [(3, 2), (4, 3)]


def test_each_is_a_channel_of_its_own(three: Script) -> None:
    """Ring, event flag, target VP and generation are its own (case 121)."""
    for relid in (2, 3):
        three.opened(relid, offer_id=relid + 9, vp=relid - 1)

    assert [(view.flag, view.target_vp, view.generation) for view in three.bus.channels()[:3]] == [
        (1, 0, 1),
        (2, 1, 1),
        (3, 2, 1),
    ]


def test_the_device_is_withdrawn(three: Script) -> None:
    """The subchannels are rescinded before the primary, and the host hears of each (case 113)."""
    three.opened(2, offer_id=11)

    effects = three.host(device_link.Revoke(1))

    assert sorted(rescinded(effects)[:3]) == [2, 3, 4]
    assert rescinded(effects)[3] == 1
    assert asked(effects) == [device_link.Revoked(offer_id) for offer_id in (11, 12, 13, 1)]


def test_the_guest_closes_the_primary(three: Script) -> None:
    """Every subchannel is rescinded, the open one closed; the hosts are to give them back (case 114)."""
    three.opened(2, offer_id=11)

    effects = three.guest(messages.Close(1))

    assert rescinded(effects) == [2, 3, 4]
    assert [effect for effect in effects if isinstance(effect, CloseSlot)] == [
        CloseSlot(1, 1, 1),
        CloseSlot(2, 2, 1),
    ]
    assert asked(effects) == [
        device_link.Close(1, 1),
        device_link.Close(11, 1),
        *(device_link.Withdraw(offer_id) for offer_id in (11, 12, 13)),
    ]
    assert three.host(device_link.Closed(11, 1)) == []
    assert asked(three.host(device_link.Revoke(11))) == [device_link.Revoked(11)]


def test_a_withdrawn_relid_waits_for_host_and_claim(three: Script) -> None:
    """It is used again only when guest, host and claim are done (cases 114, 124)."""
    three.opened(2, offer_id=11)
    three.guest(messages.Close(1))
    three.guest(messages.RelidReleased(2))
    three.claim_free(2)
    three.host(device_link.Closed(1, 1))
    three.claim_free(1)
    assert 2 in three.table

    three.host(device_link.Revoke(11))

    assert 2 not in three.table
    assert indices(three.host(device_link.Offer(2, NIC, CARD, 0, 9))) == [(2, 9)]


def test_gpadls_of_a_withdrawn_subchannel(three: Script) -> None:
    """What the device had not answered fails; what it had is the guest's again when the host gave it back
    (cases 101, 114)."""
    three.create_gpadl(2, 5)
    three.create_gpadl(2, 6)
    three.accept_gpadl(11, 6)

    answers = sent(three.guest(messages.Close(1)))
    assert messages.GpadlCreated(2, 5, messages.UNSUCCESSFUL) in answers
    assert sent(three.guest(messages.GpadlTeardown(2, 6))) == []
    assert sent(three.host(device_link.Revoke(11))) == [messages.GpadlTorndown(6)]


def test_enable_after_reopening(three: Script) -> None:
    """Indices begin at 1 again; what was left over from before the close is dropped (case 115)."""
    three.guest(messages.Close(1))
    for offer_id in (11, 12, 13):
        three.host(device_link.Revoke(offer_id))
    for relid in (2, 3, 4):
        three.guest(messages.RelidReleased(relid))
    three.host(device_link.Closed(1, 1))
    three.claim_free()
    assert refusals(enable(three, 2)) == ["stale answer"]
    three.guest(messages.Open(1, 1, 1, 0, 2, bytes(120)))
    three.host(device_link.Opened(1, 2, 0))

    assert refusals(enable(three, 2, generation=1)) == ["stale answer"]
    assert indices(enable(three, 2, generation=2)) == [(2, 1), (3, 2)]


def test_enable_before_the_guest_released_the_old_ones(three: Script) -> None:
    """The same channels come back, each when the guest has released it (case 126)."""
    three.guest(messages.Close(1))
    for offer_id in (11, 12, 13):
        three.host(device_link.Revoke(offer_id))
    three.host(device_link.Closed(1, 1))
    three.claim_free()
    three.guest(messages.Open(1, 1, 1, 0, 2, bytes(120)))
    three.host(device_link.Opened(1, 2, 0))

    effects = enable(three, 1, generation=2)
    assert answer(effects) == device_link.SubchannelsEnabled(1, 0, 1, b"")
    assert indices(effects) == []
    assert indices(three.guest(messages.RelidReleased(2))) == [(2, 1)]


def test_a_key_that_its_host_has_not_given_back(three: Script) -> None:
    """It cannot be offered again (case 040)."""
    three.guest(messages.Close(1))

    (result,) = asked(three.host(device_link.Offer(99, NIC, CARD, 0, 1)))
    assert isinstance(result, device_link.OfferResult)
    assert result.status == messages.UNSUCCESSFUL


def test_unload(three: Script) -> None:
    """The subchannels go with the connection, without a RESCIND: the next guest finds the primary alone."""
    three.opened(2, offer_id=11)

    effects = three.guest(messages.Unload())
    assert rescinded(effects) == []
    for offer_id in (1, 11):
        three.host(device_link.Closed(offer_id, 1))
    three.host(device_link.GpadlTornDown(1, 1))
    three.claim_free(1)
    three.claim_free(2)
    assert three.bus.state == "disconnecting"
    three.host(device_link.Revoke(12))
    three.host(device_link.Revoke(13))
    effects = three.host(device_link.Revoke(11))

    assert Disconnected() in effects
    assert indices(three.connect()) == [(1, 0)]


def test_the_host_dies_before_it_gives_them_back(three: Script) -> None:
    """Its death says the same (case 177)."""
    three.guest(messages.Close(1))
    three.host_gone()
    for relid in (2, 3, 4):
        three.guest(messages.RelidReleased(relid))
    assert {2, 3, 4} <= three.table.keys()

    three.host_dead()

    assert three.table.keys() == {1}


@pytest.mark.parametrize("state", ["closed", "opening", "subchannel"])
def test_enable_where_it_makes_no_sense(state: str) -> None:
    """A primary that is not open has none, and a subchannel has none of its own (case 112)."""
    script = Script()
    script.host(device_link.Offer(1, NIC, CARD, 0, int(state == "subchannel"), max_subchannels=3))
    script.connect()
    if state == "opening":
        script.opening()
    elif state == "subchannel":
        script.opened()
        assert answer(enable(script, 1)).status == messages.UNSUCCESSFUL
        return
    assert refusals(enable(script, 1)) == ["stale answer"]
