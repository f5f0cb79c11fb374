"""The transition table: no state without a way in and a way out, and the answers of the specification."""

import pytest

from tests.unit.bus.script import Script
from vmbusd.bus.channels import GUEST_KNOWS, TRANSITIONS, Event, State
from vmbusd.bus.refusal import Refusal


def reachable(start: State) -> set[State]:
    found, ahead = {start}, [start]
    while ahead:
        for state in TRANSITIONS[ahead.pop()].values():
            if state not in found:
                found.add(state)
                ahead.append(state)
    return found


def test_every_state_is_reached_and_can_be_removed() -> None:
    """From the first state all are reached, and from all the last."""
    assert reachable(State.CLIENT_RELEASED) == set(State)
    for state in State:
        assert State.REMOVED in reachable(state)


@pytest.mark.parametrize("state", sorted(GUEST_KNOWS))
def test_every_channel_the_guest_knows_can_be_taken_away(state: State) -> None:
    """The end of the connection is legal at any time, and then the guest knows it no more."""
    assert TRANSITIONS[state][Event.RESET] not in GUEST_KNOWS


@pytest.mark.parametrize("state", [state for state in State if state not in (State.REVOKED, State.REMOVED)])
def test_every_channel_of_a_host_can_be_withdrawn_once(state: State) -> None:
    """Revoke is legal wherever a host stands behind the channel, and only there (case 131)."""
    if state is State.REVOKED_CLIENT_RELEASE:
        assert Event.REVOKE not in TRANSITIONS[state]
    else:
        assert Event.REVOKE not in TRANSITIONS[TRANSITIONS[state][Event.REVOKE]]


def test_an_event_that_is_not_legal() -> None:
    """It is refused by name and changes nothing."""
    script = Script()
    script.offer()
    (channel,) = script.bus._registry.all()

    with pytest.raises(Refusal, match="CLOSE of channel 0: CLIENT_RELEASED"):
        channel.step(Event.CLOSE)
    assert channel.state is State.CLIENT_RELEASED
