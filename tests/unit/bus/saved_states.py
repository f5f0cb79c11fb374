"""States to be saved, and what restores them: for the tests of saved data."""

import pytest

from tests.unit.bus.script import RAM_PAGES, VPS, Script
from vmbusd.abi import device_link, messages
from vmbusd.bus import saved
from vmbusd.bus.bus import Bus
from vmbusd.bus.options import BusOptions
from vmbusd.bus.saved import SavedBus, SavedError


def restored(state: SavedBus, options: BusOptions | None = None) -> Bus:
    """The bus of a state that went over a disk."""
    data = saved.encode(state)
    return Bus.restore(saved.decode(data), vps=VPS, ram_pages=RAM_PAGES, options=options)


def refused(state: SavedBus, options: BusOptions | None = None) -> str:
    """The field for which a state is refused."""
    with pytest.raises(SavedError) as found:
        restored(state, options)
    assert str(found.value).startswith(f"saved state: {found.value.field}")
    return found.value.field


def busy() -> Script:
    """Three channels: open with a second GPADL unfinished, opening, and closed; one rescinded."""
    script = Script()
    for number in (1, 2, 3, 4):
        script.offer(number)
    script.connect()
    script.opened(1)
    script.create_gpadl(1, 9, 60)
    script.guest(messages.GpadlHeader(1, 10, 8 * 41, 1, bytes(8)))
    script.opening(2, offer_id=2)
    script.create_gpadl(4, 4)
    script.accept_gpadl(4, 4)
    script.host(device_link.Revoke(4))
    return script
