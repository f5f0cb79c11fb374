"""MODIFYCHANNEL and VPs that come and go: where a channel's interrupts go."""

import pytest

from tests.unit.bus.script import FAILURE, Script, asked, refusals, sent
from vmbusd.abi import device_link, layout, messages, wire
from vmbusd.bus.effects import AskHost, SetTarget

UNSUCCESSFUL = messages.UNSUCCESSFUL


def response(status: int = 0, relid: int = 1) -> list[messages.ModifyChannelResponse]:
    return [messages.ModifyChannelResponse(relid, status)]


@pytest.fixture
def script() -> Script:
    """One open channel on VP 0."""
    script = Script()
    script.offer()
    script.connect()
    script.opened()
    return script


def at_5_2() -> Script:
    """The same channel on a connection at 5.2, where MODIFYCHANNEL has no response."""
    script = Script()
    script.offer()
    script.connect(wire.V5_2)
    script.opened()
    return script


def test_modify(script: Script) -> None:
    """The table first, then the device; the response waits for its answer (cases 143, 144)."""
    assert script.guest(messages.ModifyChannel(1, 3)) == [
        SetTarget(1, 3),
        AskHost(0, device_link.Retarget(1, 1, 3)),
    ]

    assert sent(script.host(device_link.Retargeted(1, 1, 3, 0))) == response()


def test_a_channel_that_is_not_open() -> None:
    """Unknown, closed, opening or closing: the response is a failure with the relid given (case 145)."""
    script = Script()
    script.offer()
    script.connect()
    modify = messages.ModifyChannel(1, 2)

    assert sent(script.guest(messages.ModifyChannel(77, 2))) == response(UNSUCCESSFUL, 77)
    assert sent(script.guest(modify)) == response(UNSUCCESSFUL)
    script.opening()
    assert sent(script.guest(modify)) == response(UNSUCCESSFUL)
    script.host(device_link.Opened(1, 1, 0))
    script.guest(messages.Close(1))
    assert sent(script.guest(modify)) == response(UNSUCCESSFUL)


@pytest.mark.parametrize("vp", [4, 64, 0xFFFFFFFE, layout.NO_TARGET])
def test_a_vp_that_cannot_be_a_target(script: Script, vp: int) -> None:
    """One the guest does not have, or none at all: failure, and the channel stays (cases 146, 148)."""
    assert sent(script.guest(messages.ModifyChannel(1, vp))) == response(UNSUCCESSFUL)
    assert script.table[1].target == 0


def test_a_channel_opened_without_interrupts() -> None:
    """It cannot be given a target later (case 147)."""
    script = Script()
    script.offer()
    script.connect()
    script.opened(vp=layout.NO_TARGET)

    assert sent(script.guest(messages.ModifyChannel(1, 2))) == response(UNSUCCESSFUL)


def test_a_second_one_while_one_is_under_way(script: Script) -> None:
    """It is refused: one retarget, one response (case 149)."""
    script.guest(messages.ModifyChannel(1, 3))

    assert refusals(script.guest(messages.ModifyChannel(1, 2))) == ["wrong state"]
    assert sent(script.host(device_link.Retargeted(1, 1, 3, 0))) == response()
    assert script.table[1].target == 3


def test_below_5_3() -> None:
    """No response; of several asked for meanwhile only the newest is applied (cases 143, 145, 150)."""
    script = at_5_2()
    script.guest(messages.ModifyChannel(1, 3))
    assert script.guest(messages.ModifyChannel(1, 1)) == []
    assert script.guest(messages.ModifyChannel(1, 2)) == []

    assert script.host(device_link.Retargeted(1, 1, 3, 0)) == [
        SetTarget(1, 2),
        AskHost(0, device_link.Retarget(1, 1, 2)),
    ]
    assert script.host(device_link.Retargeted(1, 1, 2, 0)) == []
    assert refusals(script.guest(messages.ModifyChannel(1, 9))) == ["wrong state"]


def test_close_while_it_is_under_way(script: Script) -> None:
    """The close proceeds and the late answer produces nothing (case 151)."""
    script.guest(messages.ModifyChannel(1, 3))

    assert asked(script.guest(messages.Close(1))) == [device_link.Close(1, 1)]
    assert refusals(script.host(device_link.Retargeted(1, 1, 3, 0))) == ["stale answer"]
    script.host(device_link.Closed(1, 1))
    script.claim_free()
    script.guest(messages.Open(1, 1, 1, 0, 2, bytes(120)))
    script.host(device_link.Opened(1, 2, 0))
    script.guest(messages.ModifyChannel(1, 2))
    assert refusals(script.host(device_link.Retargeted(1, 1, 2, 0))) == ["stale answer"]
    assert sent(script.host(device_link.Retargeted(1, 2, 2, 0))) == response()


def test_the_device_refuses(script: Script) -> None:
    """The old VP is kept."""
    script.guest(messages.ModifyChannel(1, 3))

    effects = script.host(device_link.Retargeted(1, 1, 3, FAILURE))

    assert effects[0] == SetTarget(1, 0)
    assert sent(effects) == response(UNSUCCESSFUL)


def test_a_vp_goes_offline(script: Script) -> None:
    """Its channels move, later opens that name it get the stand-in, and MODIFY to it is refused."""
    script.offer(2)

    assert script.vp_offline(0, 2) == [SetTarget(1, 2)]
    assert script.opening(2, offer_id=2, vp=0)[0] == SetTarget(2, 2)
    assert sent(script.guest(messages.ModifyChannel(1, 0))) == response(UNSUCCESSFUL)


def test_the_stand_in_goes_offline_too(script: Script) -> None:
    """Whatever pointed at the first VP ends on the one that lives."""
    script.vp_offline(1, 0)
    script.offer(2)

    assert script.vp_offline(0, 3) == [SetTarget(1, 3)]
    assert script.opening(2, offer_id=2, vp=1)[0] == SetTarget(2, 3)


def test_a_vp_comes_back(script: Script) -> None:
    """It can be a target again; nothing moves by itself."""
    script.vp_offline(0, 2)

    assert script.vp_online(0) == []
    assert script.guest(messages.ModifyChannel(1, 0))[0] == SetTarget(1, 0)


def test_a_vp_goes_offline_under_a_retarget(script: Script) -> None:
    """A refused retarget does not lead back to a VP that is gone."""
    script.guest(messages.ModifyChannel(1, 3))
    script.vp_offline(0, 2)

    assert script.host(device_link.Retargeted(1, 1, 3, FAILURE))[0] == SetTarget(1, 2)


def test_the_guest_leaves_under_a_retarget(script: Script) -> None:
    """A late answer of the device is dropped; there is nobody to answer."""
    script.guest(messages.ModifyChannel(1, 3))
    script.guest(messages.Unload())

    assert refusals(script.host(device_link.Retargeted(1, 1, 3, 0))) == ["stale answer"]
