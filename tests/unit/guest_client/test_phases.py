"""The guest's table of phases: no phase without a way in and a way out, and what a channel refuses."""

import pytest

from guest_client.entries import Entry
from guest_client.phases import PHASES, Event, Phase
from tests.unit.guest_client.script import offer
from vmbusd.abi.errors import UsageError


def reachable(start: Phase) -> set[Phase]:
    found, ahead = {start}, [start]
    while ahead:
        fresh = set(PHASES[ahead.pop()].values()) - found
        found |= fresh
        ahead += fresh
    return found


def test_every_phase_is_reached_and_can_be_left() -> None:
    """From the offer all are reached, and from all the release."""
    assert reachable(Phase.OFFERED) == set(Phase)
    for phase in Phase:
        assert Phase.RELEASED in reachable(phase)


@pytest.mark.parametrize("phase", [phase for phase in Phase if Phase.OFFERED in reachable(phase)])
def test_a_living_channel_can_be_rescinded(phase: Phase) -> None:
    """Whatever the guest is doing with it, and then it is opened no more (case 135)."""
    assert Phase.OFFERED not in reachable(PHASES[phase][Event.RESCIND])


@pytest.mark.parametrize("phase", Phase)
def test_what_the_table_has_not_is_refused(phase: Phase) -> None:
    """Every pair of phase and event does what the table says or raises and changes nothing."""
    for event in Event:
        entry = Entry(offer(5), phase)
        if event in PHASES[phase]:
            entry.step(event)
            assert entry.phase is PHASES[phase][event]
        else:
            with pytest.raises(UsageError, match=f"relid 5 is {phase}: no {event.name}"):
                entry.step(event)
            assert entry.phase is phase
