"""Pages that the backend answers for when the one who asked is on the way out."""

import pytest

from tests.unit.bus.script import Script, sent
from vmbusd.abi import device_link, messages, wire
from vmbusd.bus.effects import Disconnected, Effect, ResetDone
from vmbusd.bus.options import BusOptions

CONTACT = messages.InitiateContactOld(wire.V1_1, 0, 4096, 0, 0)


@pytest.mark.parametrize("ok", [True, False])
def test_pages_answered_during_a_reset_neither_connect_nor_answer(ok: bool) -> None:
    """A contact that waits for its pages is over with the reset, and the reset still ends (case 169)."""
    script = Script(BusOptions(guest_pages=True))
    script.offer()
    script.connect(wire.V4_0)
    script.create_gpadl()
    script.accept_gpadl()
    # A channel that an unload keeps, so that the reset has something to wait for.
    script.guest(messages.OpenReserved(1, 0, 2, 1, 2))
    script.host(device_link.Opened(1, 1, 0))
    script.guest(messages.Unload())
    script.guest(CONTACT)
    assert script.bus.state == "connecting"

    assert not done(script.reset())
    late = script.pages(ok)

    assert sent(late) == []
    assert script.bus.state == "disconnecting"
    script.host(device_link.Closed(1, 1))
    script.claim_free()
    assert done(script.host(device_link.GpadlTornDown(1, 1))) == [Disconnected(), ResetDone(1)]
    assert script.bus.accepting


def done(effects: list[Effect]) -> list[Effect]:
    """What says that something has ended."""
    return [effect for effect in effects if isinstance(effect, Disconnected | ResetDone)]
