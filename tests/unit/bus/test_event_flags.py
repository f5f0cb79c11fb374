"""Event flags and connection ids that the guest chooses when it opens a channel (6.0 with feature 0x01)."""

import pytest

from tests.unit.bus.script import FAILURE, Script, asked, refusals, sent
from vmbusd.abi import device_link, messages, wire
from vmbusd.bus.effects import CloseSlot, EmptySlot, FillSlot, OpenSlot, SetTarget

CHOSEN, REDIRECT = 0x01, 0x02


def open2(
    relid: int, flag: int = 0, connection_id: int = 0, flags: int = 0, ring: int | None = None
) -> messages.Open2:
    handle = relid if ring is None else ring
    return messages.Open2(relid, 7, handle, 0, 2, bytes(120), connection_id, flag, flags)


def connected(features: int = CHOSEN, *, offers: int = 1) -> Script:
    """Some closed channels with an accepted ring GPADL each."""
    script = Script()
    for offer_id in range(1, offers + 1):
        script.offer(offer_id)
    script.connect(wire.V6_0, features)
    for relid in range(1, offers + 1):
        script.create_gpadl(relid, relid)
        script.accept_gpadl(relid, relid)
    return script


def opened(script: Script, relid: int, flag: int) -> None:
    script.guest(open2(relid, flag))
    script.host(device_link.Opened(relid, script.generations[flag], 0))


def close(script: Script, relid: int) -> None:
    flag = script.view(relid).flag
    script.guest(messages.Close(relid))
    script.host(device_link.Closed(relid, script.generations[flag]))
    script.claim_free(flag)


def test_a_channel_has_no_slot_before_it_is_opened() -> None:
    """The guest has not said yet which flag it will be."""
    script = connected()

    assert script.table == {}
    assert script.view().flag == 0


def test_what_the_guest_names_is_used() -> None:
    """Flag and connection id are the named ones; not named again, they are the offered ones (case 062)."""
    script = connected()

    effects = script.guest(open2(1, 2, 0x2002))

    slot, target, opened_slot = effects[:3]
    assert isinstance(slot, FillSlot)
    assert (slot.flag, slot.relid, slot.connection_id) == (2, 1, 0x2002)
    assert (target, opened_slot) == (SetTarget(1, 0), OpenSlot(2, 1, 1))
    (request,) = asked(effects)
    assert isinstance(request, device_link.Open)
    assert (request.event_flag, request.connection_id) == (2, 0x2002)
    script.host(device_link.Opened(1, 1, 0))
    script.guest(messages.Close(1))
    script.host(device_link.Closed(1, 1))
    assert script.claim_free(2)[-1] == EmptySlot(2, 1)

    (again,) = asked(script.guest(open2(1)))
    assert isinstance(again, device_link.Open)
    assert (again.event_flag, again.connection_id) == (1, 0x2001)


def test_only_redirection() -> None:
    """Bit 0 of the flags is kept, flag and connection id are not used (case 063)."""
    script = connected(REDIRECT)

    (request,) = asked(script.guest(open2(1, 5, 0x2005, 0x0ABD)))

    assert isinstance(request, device_link.Open)
    assert (request.event_flag, request.connection_id, request.flags) == (1, 0x2001, 1)


def test_only_chosen_flags() -> None:
    """Without its feature the redirection bit counts for nothing (case 063)."""
    (request,) = asked(connected().guest(open2(1, 5, 0x2005, 0xFFFF)))

    assert isinstance(request, device_link.Open)
    assert (request.event_flag, request.flags) == (5, 0)


@pytest.mark.parametrize("features", [CHOSEN, REDIRECT, CHOSEN | REDIRECT])
def test_the_short_form(features: int) -> None:
    """With either feature the 148-byte form is too short (case 024)."""
    script = connected(features)

    assert refusals(script.guest(messages.Open(1, 7, 1, 0, 2, bytes(120)))) == ["too short"]


def test_the_long_form_without_the_features() -> None:
    """It is read as the short one (case 024)."""
    (request,) = asked(connected(0).guest(open2(1, 9, 0x2009, 1)))

    assert isinstance(request, device_link.Open)
    assert (request.event_flag, request.connection_id, request.flags) == (1, 0x2001, 0)


@pytest.mark.parametrize("flag", [2048, 0xFFFF])
def test_a_flag_that_does_not_exist(flag: int) -> None:
    """The open fails and the channel stays closed (case 220)."""
    script = connected()

    assert sent(script.guest(open2(1, flag))) == [messages.OpenResult(1, 7, messages.UNSUCCESSFUL)]
    assert script.view().state == "closed"


def test_a_flag_in_use() -> None:
    """The open fails, the channel that has the flag is unharmed (case 236)."""
    script = connected(offers=2)
    opened(script, 1, 5)

    assert sent(script.guest(open2(2, 5))) == [messages.OpenResult(2, 7, messages.UNSUCCESSFUL)]
    assert script.view(1).state == "open"
    opened(script, 2, 1)


def test_a_flag_whose_close_is_not_complete() -> None:
    """The open waits until device and claim of the last open are done, then goes on by itself (case 237)."""
    script = connected(offers=2)
    opened(script, 1, 5)
    script.guest(messages.Close(1))

    assert script.guest(open2(2, 5)) == []
    assert script.view(2).state == "closing_reopen"
    assert script.host(device_link.Closed(1, 1)) == []
    effects = script.claim_free(5)

    assert [type(effect) for effect in effects[1:4]] == [EmptySlot, FillSlot, SetTarget]
    assert effects[4] == OpenSlot(5, 2, 2)
    assert sent(script.host(device_link.Opened(2, 2, 0))) == [messages.OpenResult(2, 7, 0)]


def test_two_that_wait_for_one_flag() -> None:
    """One gets it, the other finds it in use."""
    script = connected(offers=3)
    opened(script, 1, 5)
    script.guest(messages.Close(1))
    script.guest(open2(2, 5))
    script.guest(open2(3, 5))
    script.host(device_link.Closed(1, 1))

    assert sent(script.claim_free(5)) == [messages.OpenResult(3, 7, messages.UNSUCCESSFUL)]
    assert script.view(2).state == "opening"


def test_a_waiting_open_is_revoked() -> None:
    """It is rescinded like any other, and the flag is free when the first close is complete."""
    script = connected(offers=3)
    opened(script, 1, 5)
    script.guest(messages.Close(1))
    script.guest(open2(2, 5))
    assert sent(script.host(device_link.Revoke(2))) == [messages.Rescind(2)]
    script.host(device_link.Closed(1, 1))
    script.claim_free(5)

    opened(script, 3, 5)


def test_five_channels_five_times() -> None:
    """The same flags serve again after close, failed open and rescind (case 237)."""
    script = connected(offers=5)
    for _ in range(5):
        for relid in range(1, 6):
            opened(script, relid, 6 - relid)
        for relid in range(1, 6):
            close(script, relid)
    script.guest(open2(1, 1))
    script.host(device_link.Opened(1, script.generations[1], FAILURE))
    script.claim_free(1)
    opened(script, 2, 1)
    script.host(device_link.Revoke(2))
    script.claim_free(1)

    opened(script, 3, 1)
    assert script.view(3).flag == 1


def test_a_channel_that_changes_its_flag() -> None:
    """Its generation is new for the channel too: an answer to its last open shows as stale (case 236)."""
    script = connected()
    for flag in (2, 3):
        opened(script, 1, flag)
        close(script, 1)

    assert (script.generations[2], script.generations[3]) == (1, 2)
    script.guest(open2(1, 4))
    assert refusals(script.host(device_link.Opened(1, 2, 0))) == ["stale answer"]


def test_unload_with_chosen_flags() -> None:
    """The slot of the chosen flag is closed and emptied, and the next connection starts afresh (case 161)."""
    script = connected()
    opened(script, 1, 9)

    effects = script.guest(messages.Unload())
    assert CloseSlot(9, 1, 1) in effects
    script.host(device_link.Closed(1, 1))
    script.host(device_link.GpadlTornDown(1, 1))
    effects = script.claim_free(9)

    assert effects[0] == EmptySlot(9, 1)
    assert sent(effects) == [messages.UnloadResponse()]
    script.connect()
    script.opened()
    assert script.view().flag == 1
