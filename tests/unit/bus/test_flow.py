"""What holds messages up, and what makes the bus as new: pause, a full transport, reset."""

import pytest

from tests.unit.bus.script import CONTACT, Script, asked, contact, refusals, sent
from vmbusd.abi import device_link, messages, wire
from vmbusd.bus.effects import CloseSlot, Disconnected, EmptySlot, ResetDone
from vmbusd.bus.guest_messages import MAX_WAITING

PAUSE = 0x20


@pytest.fixture
def paused() -> Script:
    """An opening channel and a GPADL the device has not answered, then PAUSE."""
    script = Script()
    script.offer()
    script.connect(wire.V6_0, PAUSE)
    script.opening()
    script.create_gpadl(1, 2)
    assert sent(script.guest(messages.Pause())) == [messages.PauseResponse()]
    return script


# Pause


def test_results_wait_for_resume(paused: Script) -> None:
    """Nothing follows PAUSE_RESPONSE; RESUME lets the results out in order (case 292)."""
    assert paused.bus.paused
    assert sent(paused.host(device_link.Opened(1, 1, 0))) == []
    assert sent(paused.accept_gpadl(1, 2)) == []
    assert sent(paused.offer(2)) == []

    first, second, third = sent(paused.guest(messages.Resume()))

    assert (first, second) == (messages.OpenResult(1, 1, 0), messages.GpadlCreated(1, 2, 0))
    assert isinstance(third, messages.Offer)
    assert not paused.bus.paused


@pytest.mark.parametrize(
    "message",
    [messages.RequestOffers(), messages.Close(1), messages.Pause(), messages.ModifyChannel(1, 1)],
)
def test_what_a_paused_connection_hears(paused: Script, message: messages.Pause) -> None:
    """Everything but RESUME, UNLOAD and INITIATE_CONTACT is refused and the pause holds (case 293)."""
    assert refusals(paused.guest(message)) == ["paused"]
    assert paused.bus.paused


def test_unload_ends_the_pause(paused: Script) -> None:
    """What was held back comes out first, then the connection ends (case 293)."""
    paused.host(device_link.Opened(1, 1, 0))

    assert sent(paused.guest(messages.Unload())) == [messages.OpenResult(1, 1, 0)]
    assert not paused.bus.paused


def test_contact_ends_the_pause() -> None:
    """The new connection is not paused (case 293)."""
    script = Script()
    script.connect(wire.V6_0, PAUSE)
    script.guest(messages.Pause())

    assert sent(script.guest(CONTACT)) == [messages.VersionResponse(1, 0, 1)]
    assert not script.bus.paused


def test_a_guest_that_goes_while_paused(paused: Script) -> None:
    """What was held back is for nobody."""
    paused.host(device_link.Opened(1, 1, 0))

    assert sent(paused.guest_gone()) == []
    assert not paused.bus.paused


def test_resume_without_pause() -> None:
    """It changes nothing."""
    script = Script()
    script.connect(wire.V6_0, PAUSE)

    assert script.guest(messages.Resume()) == []


def test_a_reserved_channel_is_not_paused() -> None:
    """Its answers go to a target of their own and do not wait (case 185)."""
    script = Script()
    script.offer()
    script.connect(wire.V6_0, PAUSE)
    script.create_gpadl()
    script.accept_gpadl()
    script.guest(messages.OpenReserved(1, 0, 2, 1, 2))
    script.guest(messages.Pause())

    assert sent(script.host(device_link.Opened(1, 1, 0))) == [messages.OpenResult(1, 0, 0)]


# A transport that is full


def test_a_full_transport() -> None:
    """Messages queue in order, no guest message is taken meanwhile, then all goes on (case 291)."""
    script = Script()
    script.offer()
    script.connect()
    script.create_gpadl()
    assert script.output(False) == []
    assert not script.bus.accepting

    assert sent(script.accept_gpadl()) == []
    assert sent(script.offer(2)) == []
    assert script.guest(messages.GpadlTeardown(1, 1)) == []
    assert script.bus.state == "connected"
    effects = script.output(True)

    assert [type(message) for message in sent(effects)] == [messages.GpadlCreated, messages.Offer]
    assert asked(effects) == [device_link.Teardown(1, 1)]
    assert script.bus.accepting


def test_too_many_that_wait() -> None:
    """So many messages wait, in order; a reader that goes on sends the rest in vain (cases 291, 311)."""
    script = Script()
    script.connect()
    script.output(False)
    for number in range(MAX_WAITING):
        assert script.bus.guest_message(wire.encode(messages.ModifyChannel(number, 0)), 1) == []
    assert refusals(script.guest(messages.RequestOffers())) == ["too many waiting"]

    answers = sent(script.bus.guest_output(True))

    failed = messages.UNSUCCESSFUL
    assert answers == [messages.ModifyChannelResponse(number, failed) for number in range(MAX_WAITING)]


def test_a_guest_that_goes_while_messages_wait() -> None:
    """What it said last is not heard any more (case 242)."""
    script = Script()
    script.connect()
    script.output(False)
    script.guest(messages.Unload())

    assert script.guest_gone() == [Disconnected()]
    assert script.bus.accepting


# Reset


@pytest.fixture
def opened() -> Script:
    """Two open channels."""
    script = Script()
    script.offer(1)
    script.offer(2)
    script.connect()
    script.opened(1, offer_id=1)
    script.opened(2, offer_id=2)
    return script


def test_reset(opened: Script) -> None:
    """All channels are closed, the guest hears nothing, the reset is reported once (case 166)."""
    effects = opened.reset()

    assert [effect for effect in effects if isinstance(effect, CloseSlot)] == [
        CloseSlot(1, 1, 1),
        CloseSlot(2, 2, 1),
    ]
    for offer_id in (1, 2):
        opened.host(device_link.Closed(offer_id, 1))
        opened.host(device_link.GpadlTornDown(offer_id, offer_id))
    opened.claim_free(1)
    assert opened.claim_free(2)[-2:] == [Disconnected(), ResetDone(1)]
    assert opened.bus.state == "disconnected"
    assert len(sent(opened.connect())) == 4


def test_reset_of_a_clean_bus() -> None:
    """It is complete at once (case 168)."""
    script = Script()
    script.offer()

    assert script.reset() == [Disconnected(), ResetDone(1)]


def test_two_resets(opened: Script) -> None:
    """Both callers are told, the work is done once (case 169)."""
    opened.reset()
    assert opened.reset() == []
    for offer_id in (1, 2):
        opened.host(device_link.Closed(offer_id, 1))
        opened.host(device_link.GpadlTornDown(offer_id, offer_id))
    opened.claim_free(1)

    assert opened.claim_free(2)[-1] == ResetDone(2)


def test_messages_wait_for_a_reset(opened: Script) -> None:
    """None is handled before it is over, then all are, in order (case 170)."""
    opened.reset()
    assert not opened.bus.accepting
    assert opened.guest(contact()) == []
    assert opened.bus.guest_message(wire.encode(messages.RequestOffers()), 1) == []
    for offer_id in (1, 2):
        opened.host(device_link.Closed(offer_id, 1))
        opened.host(device_link.GpadlTornDown(offer_id, offer_id))
    opened.claim_free(1)

    answers = sent(opened.claim_free(2))

    assert [type(message) for message in answers] == [
        messages.VersionResponse,
        messages.Offer,
        messages.Offer,
        messages.AllOffersDelivered,
    ]


def test_reset_drops_what_is_held_back(opened: Script) -> None:
    """Queued messages are for nobody (case 166)."""
    opened.output(False)
    opened.offer(3)
    opened.reset()

    assert sent(opened.output(True)) == []


def test_reset_does_not_wait_for_an_open() -> None:
    """The device is asked to close; its late answer to open is ignored, its close frees the channel, which a
    connected guest then hears of (case 167)."""
    script = Script()
    script.offer()
    script.connect()
    script.opening()

    effects = script.reset()
    assert asked(effects) == [device_link.Close(1, 1), device_link.Teardown(1, 1)]
    assert effects[-2:] == [Disconnected(), ResetDone(1)]
    assert sent(script.connect())[1:] == [messages.AllOffersDelivered()]
    assert script.host(device_link.Opened(1, 1, 0)) == []
    script.host(device_link.Closed(1, 1))
    script.host(device_link.GpadlTornDown(1, 1))
    effects = script.claim_free()

    assert effects[0] == EmptySlot(1, 1)
    assert [type(message) for message in sent(effects)] == [messages.Offer]
    script.opened()


def test_reset_while_unloading(opened: Script) -> None:
    """UNLOAD_RESPONSE is not sent any more."""
    opened.guest(messages.Unload())
    opened.reset()
    for offer_id in (1, 2):
        opened.host(device_link.Closed(offer_id, 1))
        opened.host(device_link.GpadlTornDown(offer_id, offer_id))
    opened.claim_free(1)

    assert sent(opened.claim_free(2)) == []
    assert opened.unloads == 0
