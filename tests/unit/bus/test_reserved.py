"""Reserved channels: opened for a debugger, answered where it says, and kept over the end of a connection."""

import pytest

from tests.unit.bus.script import FAILURE, Script, asked, contact, refusals, sent
from vmbusd.abi import device_link, messages, wire
from vmbusd.abi.layout import NO_TARGET
from vmbusd.bus.effects import Disconnected, EmptySlot, ResetDone, SendToGuest

OPEN = messages.OpenReserved(1, 1, 2, 1, 2)
CLOSE = messages.CloseReserved(1, 3, 5)


def to(message: messages.OpenResult | messages.CloseReservedResponse, vp: int, sint: int) -> SendToGuest:
    return SendToGuest(wire.encode(message), vp, sint, may_drop=True)


@pytest.fixture
def script() -> Script:
    """One closed channel with an accepted ring GPADL, at 4.0."""
    script = Script()
    script.offer()
    script.connect(wire.V4_0)
    script.create_gpadl()
    script.accept_gpadl()
    return script


@pytest.fixture
def reserved(script: Script) -> Script:
    """The same, opened as reserved."""
    script.guest(OPEN)
    script.host(device_link.Opened(1, 1, 0))
    return script


def test_open(script: Script) -> None:
    """The device opens without interrupts; the result has open id 0 and goes where the message says, and it
    may be dropped there (cases 179, 185)."""
    (request,) = asked(script.guest(OPEN))

    assert isinstance(request, device_link.Open)
    assert request.target_vp == NO_TARGET
    assert script.host(device_link.Opened(1, 1, 0))[-1] == to(messages.OpenResult(1, 0, 0), 1, 2)


def test_open_fails(script: Script) -> None:
    """The failure goes there too, and the channel can be opened as an ordinary one (case 179)."""
    script.guest(OPEN)
    failed = messages.OpenResult(1, 0, messages.UNSUCCESSFUL)

    assert script.host(device_link.Opened(1, 1, FAILURE))[-1] == to(failed, 1, 2)
    script.claim_free()
    script.guest(messages.Open(1, 1, 1, 0, 2, bytes(120)))
    script.host(device_link.Opened(1, 2, 0))
    assert refusals(script.guest(CLOSE)) == ["wrong state"]
    assert asked(script.guest(messages.Close(1))) == [device_link.Close(1, 2)]


def test_a_bad_ring(script: Script) -> None:
    """An unknown GPADL or page offset fails where the message says (cases 065, 066)."""
    effects = script.guest(messages.OpenReserved(1, 1, 2, 77, 2))

    assert effects == [to(messages.OpenResult(1, 0, messages.UNSUCCESSFUL), 1, 2)]


@pytest.mark.parametrize(("vp", "sint"), [(4, 2), (0xFFFFFFFF, 2), (0, 0), (0, 16)])
def test_a_target_that_does_not_exist(script: Script, vp: int, sint: int) -> None:
    """It is refused: there is nobody to answer."""
    assert refusals(script.guest(messages.OpenReserved(1, vp, sint, 1, 2))) == ["wrong target"]
    assert refusals(script.guest(messages.CloseReserved(1, vp, sint))) == ["wrong target"]


def test_open_and_close_of_the_other_kind(reserved: Script) -> None:
    """CLOSECHANNEL of a reserved channel and a second open are refused (cases 180, 057)."""
    assert refusals(reserved.guest(messages.Close(1))) == ["wrong state"]
    assert refusals(reserved.guest(OPEN)) == ["wrong state"]
    assert refusals(reserved.guest(messages.CloseReserved(9, 0, 2))) == ["unknown channel"]


def test_close_while_connected(reserved: Script) -> None:
    """The response goes where the close says; the channel is closed and may be opened again (case 182)."""
    assert asked(reserved.guest(CLOSE)) == [device_link.Close(1, 1)]
    assert refusals(reserved.guest(CLOSE)) == ["wrong state"]
    reserved.host(device_link.Closed(1, 1))

    assert to(messages.CloseReservedResponse(1), 3, 5) in reserved.claim_free()
    reserved.guest(messages.Open(1, 1, 1, 0, 2, bytes(120)))
    assert sent(reserved.host(device_link.Opened(1, 2, 0))) == [messages.OpenResult(1, 1, 0)]


def test_gpadls(reserved: Script) -> None:
    """While reserved none can be made or torn down; afterwards both work (case 184)."""
    failed = messages.GpadlCreated(1, 2, messages.UNSUCCESSFUL)

    assert sent(reserved.create_gpadl(1, 2)) == [failed]
    assert refusals(reserved.guest(messages.GpadlTeardown(1, 1))) == ["wrong state"]
    reserved.guest(CLOSE)
    reserved.host(device_link.Closed(1, 1))
    reserved.claim_free()
    assert asked(reserved.guest(messages.GpadlTeardown(1, 1))) == [device_link.Teardown(1, 1)]
    reserved.create_gpadl(1, 2)
    assert sent(reserved.accept_gpadl(1, 2)) == [messages.GpadlCreated(1, 2, 0)]


def test_modify_at_5_3() -> None:
    """A reserved channel has no target to change (case 145)."""
    script = Script()
    script.offer()
    script.connect()
    script.create_gpadl()
    script.accept_gpadl()
    script.guest(OPEN)
    script.host(device_link.Opened(1, 1, 0))

    failed = messages.ModifyChannelResponse(1, messages.UNSUCCESSFUL)
    assert sent(script.guest(messages.ModifyChannel(1, 2))) == [failed]


def test_unload(reserved: Script) -> None:
    """It does not wait for the channel; channel and GPADL stay (case 181)."""
    effects = reserved.guest(messages.Unload())

    assert effects[-2:] == [
        Disconnected(),
        SendToGuest(wire.encode(messages.UnloadResponse()), 0, 2),
    ]
    assert asked(effects) == []
    assert reserved.view().state == "open"
    assert reserved.bus.statistics().gpadls == 1


def test_close_while_disconnected(reserved: Script) -> None:
    """It is heard, answered where it says, and the channel is released with its GPADL (cases 182, 187)."""
    reserved.guest(messages.Unload())

    assert asked(reserved.guest(CLOSE)) == [device_link.Close(1, 1)]
    reserved.host(device_link.Closed(1, 1))
    effects = reserved.claim_free()
    assert to(messages.CloseReservedResponse(1), 3, 5) in effects
    assert asked(effects) == [device_link.Teardown(1, 1)]
    assert reserved.host(device_link.GpadlTornDown(1, 1)) == [EmptySlot(1, 1)]
    assert reserved.bus.statistics().relids == 0


def test_a_close_that_an_unload_overtakes(reserved: Script) -> None:
    """The unload does not wait for it either, and the answer still comes (cases 181, 187)."""
    reserved.guest(CLOSE)
    assert sent(reserved.guest(messages.Unload())) == [messages.UnloadResponse()]
    reserved.host(device_link.Closed(1, 1))

    assert to(messages.CloseReservedResponse(1), 3, 5) in reserved.claim_free()


@pytest.mark.parametrize("connects_again", [True, False])
def test_an_open_that_waits_for_the_close_ends_with_its_guest(reserved: Script, connects_again: bool) -> None:
    """Asked for again while it closed, then unloaded: it is not opened for nobody, nor for the next guest
    (cases 058, 181)."""
    reserved.guest(CLOSE)
    reserved.guest(messages.Open(1, 7, 1, 0, 2, bytes(120)))
    assert sent(reserved.guest(messages.Unload())) == [messages.UnloadResponse()]
    if connects_again:
        reserved.connect(wire.V4_0)
    reserved.host(device_link.Closed(1, 1))
    effects = reserved.claim_free()

    assert to(messages.CloseReservedResponse(1), 3, 5) in effects
    assert not any(isinstance(question, device_link.Open) for question in asked(effects))


def test_offers_of_the_next_connection() -> None:
    """Channels 1 and 3 are reserved: only 2 is listed, as relid 2 (case 183)."""
    script = Script()
    for offer_id in (1, 2, 3):
        script.offer(offer_id)
    script.connect(wire.V4_0)
    for relid in (1, 3):
        script.create_gpadl(relid, relid)
        script.accept_gpadl(relid, relid)
        script.guest(messages.OpenReserved(relid, 0, 2, relid, 2))
        script.host(device_link.Opened(relid, 1, 0))
    script.guest(messages.Unload())

    listed = sent(script.connect())[1:]

    assert [message.child_relid for message in listed if isinstance(message, messages.Offer)] == [2]
    script.guest(messages.Unload())
    assert {view.relid for view in script.bus.channels()} == {0, 1, 3}


def test_the_guest_is_gone(reserved: Script) -> None:
    """Also a broken link leaves it open (case 181)."""
    assert reserved.guest_gone()[-1] == Disconnected()
    assert reserved.view().state == "open"


@pytest.mark.parametrize("connected", [True, False])
def test_reset(reserved: Script, connected: bool) -> None:
    """It is closed and its GPADL torn down before the reset is complete (cases 166, 186)."""
    if not connected:
        reserved.guest(messages.Unload())

    assert asked(reserved.reset()) == [device_link.Close(1, 1), device_link.Teardown(1, 1)]
    reserved.host(device_link.Closed(1, 1))
    reserved.host(device_link.GpadlTornDown(1, 1))
    assert reserved.claim_free() == [EmptySlot(1, 1), Disconnected(), ResetDone(1)]


def test_revoked_while_disconnected(reserved: Script) -> None:
    """There is no guest to tell; nothing is left when the claim is free."""
    reserved.guest(messages.Unload())

    effects = reserved.host(device_link.Revoke(1))
    assert sent(effects) == []
    reserved.claim_free()
    assert reserved.bus.channels() == []
    assert sent(reserved.guest(contact())) == [messages.VersionResponse(1, 0, 1)]
