"""Orders of the administrator: what they do to a channel, and what the guest's own requests do meanwhile."""

from uuid import UUID

import pytest

from tests.unit.bus.script import FAILURE, Script, asked, refusals, sent
from tests.unit.bus.test_modify import at_5_2, response
from vmbusd.abi import device_link, layout, messages, wire
from vmbusd.bus.effects import AskHost, Effect, SetTarget


@pytest.fixture
def script() -> Script:
    """One open channel on VP 0."""
    script = Script()
    script.offer()
    script.connect()
    script.opened()
    return script


def retarget(script: Script, vp: int, relid: int = 1) -> list[Effect]:
    return script.order("retarget", relid, vp)


def test_a_retarget_is_not_told_to_the_guest(script: Script) -> None:
    """The table first, then the device; its answer ends it, at 5.3 too."""
    assert script.bus.orders.objection_to_retarget(1, 3) == ""
    assert retarget(script, 3) == [SetTarget(1, 3), AskHost(0, device_link.Retarget(1, 1, 3))]
    assert script.bus.orders.is_moving(1)
    assert script.host(device_link.Retargeted(1, 1, 3, 0)) == []
    assert not script.bus.orders.is_moving(1)
    assert script.bus.orders.target(1) == 3
    assert retarget(script, 3) == []


def test_a_device_that_refuses_it(script: Script) -> None:
    """The target is put back, the guest hears nothing."""
    retarget(script, 3)

    assert script.host(device_link.Retargeted(1, 1, 3, FAILURE)) == [SetTarget(1, 0)]
    assert script.bus.orders.target(1) == 0


def test_a_modify_meanwhile_waits_and_is_answered(script: Script) -> None:
    """The guest does not know of the order, so its request is no violation; it comes last and wins
    (cases 144, 149)."""
    retarget(script, 3)
    assert script.guest(messages.ModifyChannel(1, 2)) == []
    assert refusals(script.guest(messages.ModifyChannel(1, 1)))

    assert asked(script.host(device_link.Retargeted(1, 1, 3, 0))) == [device_link.Retarget(1, 1, 2)]
    assert sent(script.host(device_link.Retargeted(1, 1, 2, 0))) == response()
    assert script.bus.orders.target(1) == 2


def test_a_modify_meanwhile_below_5_3() -> None:
    """The newest counts, nobody is answered (case 150)."""
    script = at_5_2()
    retarget(script, 3)
    script.guest(messages.ModifyChannel(1, 2))
    script.guest(messages.ModifyChannel(1, 1))

    assert asked(script.host(device_link.Retargeted(1, 1, 3, 0))) == [device_link.Retarget(1, 1, 1)]
    assert script.host(device_link.Retargeted(1, 1, 1, 0)) == []


def test_an_order_during_a_modify_is_refused(script: Script) -> None:
    """One at a time; the guest's answer is not lost."""
    script.guest(messages.ModifyChannel(1, 3))

    assert script.bus.orders.objection_to_retarget(1, 2) == "relid 1 is being moved to VP 3 already"
    assert refusals(retarget(script, 2))
    assert sent(script.host(device_link.Retargeted(1, 1, 3, 0))) == response()


def test_a_close_ends_it(script: Script) -> None:
    """The next open begins where it says, and a late answer is stale (case 151)."""
    retarget(script, 3)
    script.guest(messages.Close(1))

    assert not script.bus.orders.is_moving(1)
    assert refusals(script.host(device_link.Retargeted(1, 1, 3, 0)))


@pytest.mark.parametrize(
    ("relid", "vp", "objection"),
    [
        (2, 1, "relid 2: the guest knows no such channel"),
        (0, 1, "relid 0: the guest knows no such channel"),
        (-1, 1, "relid -1: the guest knows no such channel"),
        (1, 4, "VP 4: the partition has 4"),
        (1, -1, "VP -1: the partition has 4"),
        (1, layout.NO_TARGET, "VP 4294967295: the partition has 4"),
        (1, 2, "VP 2 is offline"),
    ],
)
def test_what_cannot_be_changes_nothing(script: Script, relid: int, vp: int, objection: str) -> None:
    """The objection is what is refused."""
    script.vp_offline(2, 0)

    assert script.bus.orders.objection_to_retarget(relid, vp) == objection
    assert [type(effect).__name__ for effect in retarget(script, vp, relid)] == ["Refused"]
    assert script.bus.orders.target(1) == 0


def test_a_channel_that_is_closed_or_silent(script: Script) -> None:
    """Neither has interrupts to move."""
    script.guest(messages.Close(1))
    assert script.bus.orders.objection_to_retarget(1, 1) == "relid 1 is closing, not open"
    quiet = Script()
    quiet.offer()
    quiet.connect()
    quiet.opened(vp=layout.NO_TARGET)
    assert quiet.bus.orders.objection_to_retarget(1, 1) == "relid 1 is open without interrupts"


def test_a_guest_of_1_1_has_only_vp_0() -> None:
    """Its interrupts are in a page that VP 0 looks into (case 234)."""
    script = Script()
    script.offer()
    script.connect(wire.V1_1)
    script.opened()

    assert script.bus.orders.objection_to_retarget(1, 1) == "at version 1.1 every interrupt goes to VP 0"
    assert retarget(script, 0) == []


def test_a_rescind_takes_the_subchannels_first() -> None:
    """RESCIND for each, Withdraw to the host; the primary's last (case 177)."""
    script = Script()
    script.host(device_link.Offer(1, UUID(int=7), UUID(int=70), max_subchannels=2))
    script.connect()
    script.opened()
    script.host(device_link.EnableSubchannels(1, 1, 2, 11))

    effects = script.order("rescind", 1)
    relids = [message.child_relid for message in sent(effects) if isinstance(message, messages.Rescind)]
    withdrawn = [one.offer_id for one in asked(effects) if isinstance(one, device_link.Withdraw)]
    assert relids == [2, 3, 1]
    assert withdrawn == [11, 12, 1]
    assert script.bus.orders.objection_to_rescind(1) == "relid 1 is rescinded already"
    assert refusals(script.order("rescind", 1))
    assert script.bus.orders.objection_to_rescind(5) == "relid 5: the guest knows no such channel"
    assert refusals(script.order("rescind", 5))


def test_a_reset_says_when_it_is_done(script: Script) -> None:
    """`resetting` lasts until the device has let go (case 166)."""
    said = [script.bus.resetting]
    for step in (
        script.reset,
        script.claim_free,
        lambda: script.host(device_link.Closed(1, 1)),
        lambda: script.host(device_link.GpadlTornDown(1, 1)),
    ):
        step()
        said.append(script.bus.resetting)

    assert said == [False, True, True, True, False]
