"""A table that was left in the middle of an input becomes what the bus says, by what is missing alone."""

import secrets
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from vmbusd.abi import device_link, gpadl, layout, link, messages, wire
from vmbusd.bus import effects
from vmbusd.bus.bus import Bus
from vmbusd.bus.effects import Effect
from vmbusd.server.memory import Memory
from vmbusd.server.objects import ObjectSet
from vmbusd.server.reconcile import reconcile

RAM = 1 << 20
HOST = 3
Step = Callable[[Bus], list[Effect]]
Shown = list[tuple[int, int, tuple[object, ...]]]


def guest(message: object) -> Step:
    """The guest says this."""
    data = wire.encode(message)  # type: ignore[arg-type]
    return lambda bus: bus.guest_message(data, link.MESSAGE_CONNECTION_OLD)


def host(message: device_link.FromHost) -> Step:
    """The host says this."""
    return lambda bus: bus.host_message(HOST, message)


def opening(relid: int, vp: int) -> list[Step]:
    """Everything from the first GPADL packet to the open that is answered; the offer's id is the relid."""
    parts = gpadl.split(relid, relid + 100, [gpadl.whole_pages(range(16 * relid, 16 * relid + 4))])
    return [
        *(guest(part) for part in parts),
        host(device_link.GpadlAccepted(relid, relid + 100, 0)),
        guest(messages.Open(relid, relid, relid + 100, vp, 2, bytes(120))),
        lambda bus: bus.host_message(
            HOST,
            device_link.Opened(relid, bus.picture().slots[relid].open.generation, 0),
        ),
    ]


def closing(relid: int) -> list[Step]:
    """From the close to its end."""

    def generation(bus: Bus) -> int:
        return next(each.generation for each in bus.channels() if each.relid == relid)

    return [
        guest(messages.Close(relid)),
        lambda bus: bus.claim_free(relid, generation(bus)),
        lambda bus: bus.host_message(HOST, device_link.Closed(relid, generation(bus))),
        guest(messages.GpadlTeardown(relid, relid + 100)),
        host(device_link.GpadlTornDown(relid, relid + 100)),
    ]


def generation_of(bus: Bus, relid: int) -> int:
    """The generation of the newest open."""
    return next(each.generation for each in bus.channels() if each.relid == relid)


def program() -> list[Step]:
    """Offers, opens, a retarget, closes, a second open, a VP without worker, rescind, release and reuse."""
    return [
        *(host(device_link.Offer(number, UUID(int=9), UUID(int=number))) for number in (1, 2)),
        guest(messages.InitiateContact(wire.V5_3, 0, 2, 0, 0, 0, 0)),
        guest(messages.RequestOffers()),
        *opening(1, 0),
        *opening(2, 1),
        guest(messages.ModifyChannel(1, 1)),
        lambda bus: bus.host_message(HOST, device_link.Retargeted(1, generation_of(bus, 1), 1, 0)),
        *closing(1),
        *opening(1, 1),
        lambda bus: bus.vp_offline(1, 0),
        lambda bus: bus.vp_online(1),
        host(device_link.Revoke(2)),
        lambda bus: bus.claim_free(2, 1),
        guest(messages.GpadlTeardown(2, 102)),
        guest(messages.RelidReleased(2)),
        host(device_link.Offer(7, UUID(int=8), UUID(int=7))),
        guest(messages.Unload()),
        lambda bus: bus.claim_free(1, 2),
        lambda bus: bus.host_message(HOST, device_link.Closed(1, 2)),
    ]


class Shared:
    """The real objects of a partition, as one daemon leaves them to the next."""

    def __init__(self) -> None:
        self.objects = ObjectSet(secrets.token_hex(6), "a", vps=2, ram_size=RAM, eventfd=False)
        self.memory = Memory(self.objects, partition="a", vps=2, ram_size=RAM)

    def carry_out(self, wanted: list[Effect]) -> None:
        """As the daemon does, the table alone."""
        table = self.memory.table
        for effect in wanted:
            if isinstance(effect, effects.FillSlot):
                self.memory.fill(effect)
            elif isinstance(effect, effects.SetTarget):
                table.set_target(effect.relid, effect.vp)
            elif isinstance(effect, effects.OpenSlot):
                table.open(effect.flag, effect.relid, effect.generation)
            elif isinstance(effect, effects.CloseSlot):
                table.close(effect.flag)
            elif isinstance(effect, effects.EmptySlot):
                table.empty(effect.flag, effect.relid)
            elif isinstance(effect, effects.SetState):
                table.set_state(effect.relid, effect.state)

    def shown(self) -> Shown:
        """Every slot with its record."""
        table = self.memory.table
        found = []
        for flag, slot in table.slots():
            relid = ((slot & 0xFFFFFFFF) - layout.TABLE_RECORDS_OFFSET) // layout.RECORD_SIZE
            found.append((flag, slot, tuple(table.record(relid).values())))
        return found

    def close(self) -> None:
        self.memory.close()
        self.objects.remove()


@pytest.fixture
def shared() -> Iterator[Callable[[], Shared]]:
    """Makes sets of objects; all are removed at the end."""
    made: list[Shared] = []

    def make() -> Shared:
        while made:
            made.pop().close()
        made.append(Shared())
        return made[0]

    yield make
    while made:
        made.pop().close()


def run(shared: Shared, steps: list[Step]) -> tuple[Bus, list[Effect]]:
    """The bus after these steps, all but the last carried out, and the effects of the last one."""
    bus = Bus(vps=2, ram_pages=RAM // layout.PAGE)
    wanted: list[Effect] = []
    for step in steps:
        shared.carry_out(wanted)
        wanted = step(bus)
        assert not any(isinstance(effect, effects.Refused) for effect in wanted), wanted
    return bus, wanted


@pytest.mark.parametrize("steps", range(1, len(program()) + 1))
def test_every_input_that_was_cut_short_is_finished(shared: Callable[[], Shared], steps: int) -> None:
    """Whatever was carried out of the last input, the table is in the end as if all of it had been."""
    wanted = run(shared(), program()[:steps])[1]
    for done in range(len(wanted) + 1):
        whole = shared()
        bus, wanted = run(whole, program()[:steps])
        whole.carry_out(wanted)
        expected = whole.shown()

        cut = shared()
        run(cut, program()[:steps])
        cut.carry_out(wanted[:done])
        reconcile(cut.memory, bus.picture())

        assert cut.shown() == expected
        # And once more: there is nothing left to do.
        assert reconcile(cut.memory, bus.picture()) == 0


def test_a_table_that_is_right_is_not_written(shared: Callable[[], Shared]) -> None:
    """Living peers go by it: after any input whose effects are done, no word is stored."""
    for steps in range(1, len(program()) + 1):
        scene = shared()
        bus, wanted = run(scene, program()[:steps])
        scene.carry_out(wanted)
        assert reconcile(scene.memory, bus.picture()) == 0
