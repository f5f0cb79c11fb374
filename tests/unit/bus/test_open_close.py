"""Open and close: what the device is asked, what the guest is told, and in which order."""

import pytest

from tests.unit.bus.script import FAILURE, Script, asked, header, range_words, refusals, sent
from vmbusd.abi import device_link, layout, messages
from vmbusd.bus.channels import State
from vmbusd.bus.effects import AskHost, CloseSlot, OpenSlot, SendToGuest, SetState, SetTarget

USER_DATA = bytes(range(120))
REFUSED = messages.OpenResult(1, 1, messages.UNSUCCESSFUL)


@pytest.fixture
def script() -> Script:
    """One offered channel, relid 1 and offer 1, with an accepted ring GPADL 1 of four pages."""
    script = Script()
    script.offer()
    script.connect()
    script.create_gpadl()
    script.accept_gpadl()
    return script


def open_(*, relid: int = 1, openid: int = 1, ring: int = 1, vp: int = 0, offset: int = 2) -> messages.Open:
    return messages.Open(relid, openid, ring, vp, offset, USER_DATA)


def test_open(script: Script) -> None:
    """The slot is open before the device is asked; the result follows its answer (cases 054, 068, 072)."""
    assert script.guest(open_(vp=3)) == [
        SetTarget(1, 3),
        OpenSlot(1, 1, 1),
        SetState(1, State.OPENING),
        AskHost(0, device_link.Open(1, 1, 1, 1, 0x2001, 3, 1, 2, USER_DATA)),
    ]

    effects = script.host(device_link.Opened(1, 1, 0))

    assert effects[0] == SetState(1, State.OPEN)
    assert sent(effects) == [messages.OpenResult(1, 1, 0)]


def test_the_device_refuses(script: Script) -> None:
    """The result carries the failure, and a second open works once the claim is free (case 055)."""
    script.guest(open_())

    effects = script.host(device_link.Opened(1, 1, FAILURE))

    assert effects[:2] == [CloseSlot(1, 1, 1), SetState(1, State.CLOSING)]
    assert sent(effects) == [REFUSED]
    assert script.claim_free() == [SetState(1, State.CLOSED)]
    assert asked(script.guest(open_())) == [device_link.Open(1, 2, 1, 1, 0x2001, 0, 1, 2, USER_DATA)]
    assert sent(script.host(device_link.Opened(1, 2, 0))) == [messages.OpenResult(1, 1, 0)]


def test_the_open_id_returns(script: Script) -> None:
    """Whatever number the guest chose comes back, also with a failure (case 056)."""
    assert sent(script.guest(open_(openid=0xDEADBEEF, ring=77)))[0] == messages.OpenResult(
        1, 0xDEADBEEF, messages.UNSUCCESSFUL
    )
    script.guest(open_(openid=0xDEADBEEF))
    assert sent(script.host(device_link.Opened(1, 1, 0))) == [messages.OpenResult(1, 0xDEADBEEF, 0)]


def test_open_of_a_channel_that_is_not_closed(script: Script) -> None:
    """Opening, open or reopening: refused, and the first operation ends normally (case 057)."""
    script.guest(open_())
    assert refusals(script.guest(open_(openid=2))) == ["wrong state"]
    assert sent(script.host(device_link.Opened(1, 1, 0))) == [messages.OpenResult(1, 1, 0)]
    assert refusals(script.guest(open_(openid=2))) == ["wrong state"]
    script.guest(messages.Close(1))
    script.guest(open_(openid=3))
    assert refusals(script.guest(open_(openid=4))) == ["wrong state"]


@pytest.mark.parametrize("claim_first", [True, False])
def test_reopen_while_closing(script: Script, claim_first: bool) -> None:
    """The new open waits for device and claim, then runs with its own parameters (case 058)."""
    script.guest(open_())
    script.host(device_link.Opened(1, 1, 0))
    script.guest(messages.Close(1))
    assert script.guest(open_(openid=7, vp=2, offset=1)) == [SetState(1, State.CLOSING_REOPEN)]

    if claim_first:
        assert script.claim_free() == []
        effects = script.host(device_link.Closed(1, 1))
    else:
        assert script.host(device_link.Closed(1, 1)) == []
        effects = script.claim_free()

    assert asked(effects) == [device_link.Open(1, 2, 1, 1, 0x2001, 2, 1, 1, USER_DATA)]
    assert sent(script.host(device_link.Opened(1, 2, 0))) == [messages.OpenResult(1, 7, 0)]


def test_a_reopen_whose_ring_is_gone_fails(script: Script) -> None:
    """The ring is looked at when the open runs, not when it was asked for."""
    script.guest(open_())
    script.host(device_link.Opened(1, 1, 0))
    script.guest(messages.Close(1))
    script.guest(open_(openid=7))
    script.guest(messages.GpadlTeardown(1, 1))
    script.host(device_link.GpadlTornDown(1, 1))
    script.claim_free()

    effects = script.host(device_link.Closed(1, 1))

    assert sent(effects) == [messages.GpadlTorndown(1), messages.OpenResult(1, 7, messages.UNSUCCESSFUL)]
    assert script.state_of() is State.CLOSED


@pytest.mark.parametrize("relid", [0, 2, 2047, 2048, 0xFFFFFFFF])
def test_an_unknown_relid(script: Script, relid: int) -> None:
    """Open and close of it are refused without an answer (case 059)."""
    assert refusals(script.guest(open_(relid=relid))) == ["unknown channel"]
    assert refusals(script.guest(messages.Close(relid))) == ["unknown channel"]


def test_a_rescinded_channel(script: Script) -> None:
    """Until it is released, open and close are silently ignored, also after a new offer (case 060)."""
    script.host(device_link.Revoke(1))
    for _ in range(2):
        assert script.guest(open_()) == []
        assert script.guest(messages.Close(1)) == []
        script.offer()


def test_without_interrupts(script: Script) -> None:
    """Target VP 0xFFFFFFFF opens a channel that is never signalled (case 064)."""
    effects = script.guest(open_(vp=layout.NO_TARGET))

    assert effects[0] == SetTarget(1, layout.NO_TARGET)
    assert sent(script.host(device_link.Opened(1, 1, 0))) == [messages.OpenResult(1, 1, 0)]


@pytest.mark.parametrize("vp", [4, 64, 0xFFFFFFFE])
def test_a_vp_the_guest_does_not_have(script: Script, vp: int) -> None:
    """An open that names it fails."""
    assert sent(script.guest(open_(vp=vp))) == [REFUSED]


@pytest.mark.parametrize("offset", [0, 4, 5, 0xFFFFFFFF])
def test_a_bad_ring_offset(script: Script, offset: int) -> None:
    """Offset 0, the page count or more: the open fails, the channel stays closed (case 065)."""
    effects = script.guest(open_(offset=offset))

    assert len(effects) == 1
    assert sent(effects) == [REFUSED]
    assert sent(script.guest(open_()) + script.host(device_link.Opened(1, 1, 0)))[-1] == messages.OpenResult(
        1, 1, 0
    )


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (range_words(4096, 0, 1) + range_words(4096, 0, 1), 2),
        (range_words(8192, 8, 3), 1),
        (range_words(8200, 0, 3), 1),
    ],
)
def test_a_bad_ring_gpadl(script: Script, words: bytes, count: int) -> None:
    """Two ranges, a start inside a page, no whole pages: an open with it fails (case 066)."""
    script.guest(header(1, 5, words, count=count))
    assert sent(script.accept_gpadl(handle=5)) == [messages.GpadlCreated(1, 5, 0)]

    assert sent(script.guest(open_(ring=5, offset=1))) == [REFUSED]


def test_a_ring_gpadl_that_is_not_there(script: Script) -> None:
    """Unknown, of another channel, unanswered or torn down: an open with it fails (case 066)."""
    script.offer(2)
    script.create_gpadl(2, handle=2)
    script.accept_gpadl(2, handle=2)
    script.create_gpadl(1, handle=3)
    script.guest(messages.GpadlTeardown(1, 1))

    for ring in (1, 2, 3, 99):
        assert sent(script.guest(open_(ring=ring))) == [REFUSED]


def test_close(script: Script) -> None:
    """The device is asked once, the guest hears nothing, and it takes device and claim (case 069)."""
    script.guest(open_())
    script.host(device_link.Opened(1, 1, 0))

    assert script.guest(messages.Close(1)) == [
        CloseSlot(1, 1, 1),
        SetState(1, State.CLOSING),
        AskHost(0, device_link.Close(1, 1)),
    ]
    assert script.host(device_link.Closed(1, 1)) == []
    assert script.claim_free() == [SetState(1, State.CLOSED)]


def test_close_of_a_channel_that_is_not_open(script: Script) -> None:
    """Closed, opening, closing or reopening: refused (case 070)."""
    assert refusals(script.guest(messages.Close(1))) == ["wrong state"]
    script.guest(open_())
    assert refusals(script.guest(messages.Close(1))) == ["wrong state"]
    script.host(device_link.Opened(1, 1, 0))
    script.guest(messages.Close(1))
    assert refusals(script.guest(messages.Close(1))) == ["wrong state"]
    script.guest(open_())
    assert refusals(script.guest(messages.Close(1))) == ["wrong state"]


def test_answers_nobody_asked_for(script: Script) -> None:
    """A completion without a question, of another open or of no offer is dropped (case 071)."""
    answers: list[device_link.FromHost] = [
        device_link.Opened(1, 1, 0),
        device_link.Closed(1, 1),
        device_link.Retargeted(1, 1, 0, 0),
        device_link.GpadlAccepted(1, 1, 0),
        device_link.GpadlTornDown(1, 1),
    ]

    assert [refusals(script.host(answer)) for answer in answers] == 5 * [["stale answer"]]
    assert refusals(script.host(device_link.Opened(9, 1, 0))) == ["unknown offer"]


def test_a_late_answer_of_an_earlier_open(script: Script) -> None:
    """Generations tell an answer to the last open from one to this open."""
    script.guest(open_())
    script.host(device_link.Opened(1, 1, FAILURE))
    script.claim_free()
    script.guest(open_())

    assert refusals(script.host(device_link.Opened(1, 1, 0))) == ["stale answer"]
    assert sent(script.host(device_link.Opened(1, 2, 0))) == [messages.OpenResult(1, 1, 0)]
    script.guest(messages.Close(1))
    assert refusals(script.host(device_link.Closed(1, 1))) == ["stale answer"]
    assert script.bus.claim_free(1, 1)[0].kind == "stale answer"  # type: ignore[union-attr]
    assert script.bus.claim_free(9, 1)[0].kind == "stale answer"  # type: ignore[union-attr]
    assert script.bus.claim_free(2048, 1)[0].kind == "stale answer"  # type: ignore[union-attr]


def test_closed_before_close(script: Script) -> None:
    """A device cannot close an open channel by itself; it withdraws the offer instead."""
    script.guest(open_())
    script.host(device_link.Opened(1, 1, 0))

    assert refusals(script.host(device_link.Closed(1, 1))) == ["stale answer"]
    assert script.state_of() is State.OPEN


def test_effects_go_to_the_vp_of_the_contact(script: Script) -> None:
    """A channel's own target never decides where control messages go (case 012)."""
    script.guest(open_(vp=3))

    effects = script.host(device_link.Opened(1, 1, 0))

    assert [effect.vp for effect in effects if isinstance(effect, SendToGuest)] == [0]
