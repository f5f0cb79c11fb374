"""A saved bus: what it holds, what is refused of it, and that nothing of it is half restored."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tests.unit.bus.saved_states import busy, refused, restored
from tests.unit.bus.script import VPS, Script, contact, sent
from vmbusd.abi import device_link, messages, wire
from vmbusd.bus import saved
from vmbusd.bus.channels import State
from vmbusd.bus.gpadls import GpadlState
from vmbusd.bus.negotiation import Pages, Plan
from vmbusd.bus.options import BusOptions
from vmbusd.bus.saved import SavedBus, SavedGpadl

PAGES = BusOptions(guest_pages=True)
Change = Callable[[SavedBus], SavedBus]


def channel(place: int, **fields: Any) -> Change:
    """A state in which a channel has other fields."""

    def change(state: SavedBus) -> SavedBus:
        channels = list(state.channels)
        channels[place] = msgspec.structs.replace(channels[place], **fields)
        return msgspec.structs.replace(state, channels=tuple(channels))

    return change


def gpadl(place: int, number: int, **fields: Any) -> Change:
    """A state in which a GPADL has other fields."""

    def change(state: SavedBus) -> SavedBus:
        gpadls = list(state.channels[place].gpadls)
        gpadls[number] = msgspec.structs.replace(gpadls[number], **fields)
        return channel(place, gpadls=tuple(gpadls))(state)

    return change


def part(name: str, **fields: Any) -> Change:
    """A state in which a part has other fields."""
    return lambda state: msgspec.structs.replace(
        state, **{name: msgspec.structs.replace(getattr(state, name), **fields)}
    )


def whole(**fields: Any) -> Change:
    """A state with other fields."""
    return lambda state: msgspec.structs.replace(state, **fields)


def test_a_busy_bus_comes_back_as_it_was() -> None:
    """Saved, written, read, restored and saved again it is the same, and so is its table (cases 201, 217)."""
    bus = busy().bus
    again = restored(bus.save())

    assert again.save() == bus.save()
    assert saved.encode(again.save()) == saved.encode(bus.save())
    assert again.picture() == bus.picture()
    assert again.channels() == bus.channels()
    assert again.statistics() == bus.statistics()


def test_a_save_changes_nothing_and_a_restore_has_no_effects() -> None:
    """The bus that was saved and the one that was restored go on in the same way."""
    script = busy()
    state = script.bus.save()
    again = restored(state)

    assert script.bus.save() == state
    answer = device_link.Opened(2, 1, 0)
    assert again.host_message(0, answer) == script.bus.host_message(0, answer)


def test_what_is_kept_of_each_state() -> None:
    """Every state of a channel is kept, also re-offered ones and those the guest does not know: their hosts
    live on (case 201)."""
    script = Script()
    script.offer(1)
    assert restored(script.bus.save()).channels() == script.bus.channels()
    script.connect()
    script.host(device_link.Revoke(1))
    script.offer(2, interface=1)
    script.host(device_link.Offer(3, UUID(int=1), UUID(int=1)))

    assert [view.state for view in restored(script.bus.save()).channels()] == ["reoffered", "closed"]


IMPOSSIBLE = [
    # Case 203: open, and the device is not; closed, and it is.
    ("channels[0].device_open", channel(0, device_open=False)),
    ("channels[2].device_open", channel(2, device_open=True)),
    # Case 213.
    ("channels[0].gpadls[1].handle", gpadl(0, 1, handle=-1)),
    ("channels[0].gpadls", gpadl(0, 1, handle=1)),
    ("channels[0].gpadls[0].ring", gpadl(0, 0, ring=(4096, 4095))),
    ("channels[0].gpadls[0].ring", gpadl(0, 0, ring=(0, 0))),
    ("channels[0].gpadls[0].pages", gpadl(0, 0, pages=0)),
    ("channels[0].gpadls[2].assembly", gpadl(0, 2, assembly=None)),
    ("channels[0].gpadls[2].assembly", gpadl(0, 2, assembly=saved.SavedAssembly(1, 7, b""))),
    ("channels[3].gpadls[0].state", gpadl(3, 0, state=GpadlState.OFFERED)),
    ("channels[0].gpadls[0].state", gpadl(0, 0, state=GpadlState.OFFERED_TEARING_DOWN)),
    ("channels[2].gpadls[0].assembly", channel(2, gpadls=(SavedGpadl(5, GpadlState.IN_PROGRESS),))),
    ("bound", whole(bound=(0, 1, 2, 9))),
    # Case 214.
    ("channels[].relid", channel(1, relid=1)),
    ("channels[].flag", channel(1, flag=1)),
    ("outbox.held[0]", part("outbox", blocked=True, held=((bytes(241), 0),))),
    ("outbox.held[0]", part("outbox", blocked=True, held=((bytes(8), VPS),))),
    ("outbox.held", part("outbox", held=((bytes(8), 0),))),
    # Ranges and enumerations.
    ("channels[0].state", channel(0, state=99)),
    ("channels[0].target_vp", channel(0, target_vp=VPS)),
    ("channels[0].relid", channel(0, relid=2048)),
    ("channels[0].flag", channel(0, flag=0)),
    ("channels[0].monitor_id", channel(0, monitor_id=128)),
    ("channels[0].armed", channel(0, armed=True)),
    ("channels[0].claim", channel(0, claim=1)),
    ("channels[0].generation", channel(0, generation=2)),
    ("channels[0].ring", channel(0, ring=None)),
    ("channels[0].retarget", channel(0, retarget=(0, VPS))),
    ("channels[0].next_target", channel(0, next_target=1)),
    ("channels[0].record", channel(0, record=None)),
    ("channels[0].reserved", channel(0, reserved=(0, 0), reserved_in=(wire.V5_3, 0))),
    ("channels[0].abandoned", channel(0, abandoned=True)),
    ("channels[0].withdrawn", channel(0, withdrawn=True)),
    ("channels[0].expires", channel(0, expires=1.0)),
    ("channels[0].held", channel(0, held=(1,))),
    ("channels[1].opened", channel(1, opened=None)),
    ("channels[2].state", channel(2, state=State.CLOSING)),
    ("channels[2].owns_monitor_id", channel(2, owns_monitor_id=True)),
    ("bound", channel(2, host=-1)),
    ("channels[].offer.offer_id", channel(1, offer=device_link.Offer(1, UUID(int=7), UUID(int=7)))),
    ("channels[1].offer", channel(1, offer=device_link.Offer(2, UUID(int=1), UUID(int=2), order=1 << 32))),
    ("channels[].offer", channel(1, offer=device_link.Offer(2, UUID(int=1), UUID(int=1)))),
    ("vps", whole(vps=VPS + 1)),
    ("ram_pages", whole(ram_pages=1)),
    ("bound", whole(bound=(0, 1))),
    ("ghosts[0]", whole(ghosts=((7, (9,)),))),
    ("channels[0].state", whole(ghosts=((7, (0,)),))),
    ("flag_waiters[0]", whole(flag_waiters=((9, (0,)),))),
    ("stand_ins", whole(stand_ins=((0, VPS),))),
    ("stand_ins", whole(stand_ins=((2, 3), (3, 2)))),
    ("channels[0].target_vp", whole(stand_ins=((0, 1),))),
    ("generations", whole(generations=(0,) * 2049)),
    ("generations", whole(generations=(0, 1, 1, 0))),
    ("low_relids", whole(low_relids=(0,))),
    ("waiting", whole(waiting=((b"", 1, False),))),
    ("sockets.now", part("sockets", now=float("nan"))),
    ("sockets.requests", part("sockets", requests=((1, bytes(40)),))),
    ("sockets.deadlines", part("sockets", deadlines=((1.0, 9),))),
    ("connection.plan.version", part("connection", state="connected", plan=Plan(0, 7))),
    ("connection.plan", part("connection", plan=Plan(VPS, wire.V5_3))),
    ("channels[0].state", part("connection", state="disconnecting")),
    ("connection.resets", part("connection", resets=1)),
    ("connection.pages", part("connection", pages=Pages(0, 4096, 8192))),
    ("connection.contact", part("connection", contact=saved.SavedContact(b"", False))),
    ("connection.unload_asked", part("connection", unload_asked=True)),
    ("connection.spoken", part("connection", spoken=wire.V5_2)),
    ("outbox.vp", part("outbox", vp=VPS)),
]


@pytest.mark.parametrize(("field", "change"), IMPOSSIBLE)
def test_what_no_bus_can_be_is_refused(field: str, change: Change) -> None:
    """Each impossible field is refused by its name (cases 203, 213, 214)."""
    assert refused(change(busy().bus.save())) == field


def test_a_disconnect_waits_for_something() -> None:
    """A disconnect that nothing holds up would have been done."""
    state = Script().bus.save()
    connection = msgspec.structs.replace(state.connection, state="disconnecting")

    assert refused(whole(connection=connection)(state)) == "connection.state"


def test_a_monitor_id_is_given_to_one_channel() -> None:
    """Two channels with one monitor id are refused (case 214)."""
    script = Script(PAGES)
    for number in (1, 2):
        flags = device_link.OfferFlag.MONITORED
        script.host(device_link.Offer(number, UUID(int=1), UUID(int=number), flags=flags))
    script.guest(contact(pages=(4096, 8192)))
    script.pages()
    script.guest(messages.RequestOffers())
    state = script.bus.save()

    assert restored(state, PAGES).save() == state
    assert refused(channel(1, monitor_id=0)(state), PAGES) == "channels[].monitor_id"


def test_a_gpadl_handle_is_unfinished_once() -> None:
    """A body names no channel, so an unfinished handle is of one GPADL only (cases 093, 213)."""
    state = busy().bus.save()
    unfinished = state.channels[0].gpadls[2]

    assert refused(channel(2, gpadls=(unfinished,))(state)) == "channels[].gpadls"


@pytest.mark.parametrize(
    ("options", "features", "field"),
    [
        (BusOptions(max_version=wire.V4_0), 0, "connection.plan.version"),
        (BusOptions(max_version=wire.V5_3), 0x20, "connection.plan.version"),
        (BusOptions(), 0x80, "connection.plan.features"),
        (BusOptions(), 0x10, "connection.plan.features"),
    ],
)
def test_what_would_not_be_accepted_now_is_refused(options: BusOptions, features: int, field: str) -> None:
    """A version above the cap of now, and features that are not granted now (case 211)."""
    script = Script(BusOptions(gpa_pinning=True))
    script.connect(wire.V6_0, features, trusted=bool(features & 0x10))
    state = part("connection", trusted=False)(script.bus.save())

    assert refused(state, options) == field


def test_features_belong_to_6_0() -> None:
    """Features of an older version are refused (case 211)."""
    script = Script()
    script.connect(wire.V5_3)
    plan = msgspec.structs.replace(script.bus.save().connection.plan, features=1)

    assert refused(part("connection", plan=plan)(script.bus.save())) == "connection.plan.features"


def test_a_cap_that_begins_later_lets_the_first_connection_be() -> None:
    """With a cap for later the connection that stands is accepted, and the next is capped (case 005)."""
    options = BusOptions(max_version=wire.V4_0, max_version_later=True)
    script = Script(options)
    script.connect(wire.V6_0)
    bus = restored(script.bus.save(), options)
    bus.guest_message(wire.encode(messages.Unload()), 1)
    (refusal,) = sent(bus.guest_message(wire.encode(contact(wire.V6_0)), 1))

    assert isinstance(refusal, messages.VersionResponse)
    assert refusal.version_supported == 0


def reserved_without_a_guest(options: BusOptions | None = None, features: int = 0) -> SavedBus:
    """A channel open as reserved whose guest has left."""
    script = Script(options)
    script.offer(1)
    script.connect(wire.V6_0, features)
    script.create_gpadl()
    script.accept_gpadl()
    script.guest(messages.OpenReserved(1, 0, 3, 1, 2))
    script.host(device_link.Opened(1, script.generation(), 0))
    script.guest(messages.Unload())
    assert script.bus.state == "disconnected"
    return script.bus.save()


@pytest.mark.parametrize(
    ("options", "spoken"),
    [
        (BusOptions(max_version=wire.V4_0), (wire.V6_0, 0)),
        (BusOptions(), (wire.V6_0, 0x80)),
        (BusOptions(), (wire.V5_3, 0x01)),
        (BusOptions(), (wire.V3_0, 0)),
        (BusOptions(), (7, 0)),
        (BusOptions(), None),
    ],
)
def test_a_reserved_channel_is_judged_by_its_connection(
    options: BusOptions, spoken: tuple[int, int] | None
) -> None:
    """Kept without a guest, it still has the version and features it was opened with: above the cap, not
    granted, or too old for reserved channels they are refused (case 212)."""
    state = reserved_without_a_guest()

    assert restored(state).save() == state
    assert refused(channel(0, reserved_in=spoken)(state), options) == "channels[0].reserved_in"


def test_relids_below_the_offset_take_nobodys_room() -> None:
    """A channel that has a relid from before the offset keeps it, and the others still fit (case 307)."""
    script = Script()
    script.offer(1)
    script.connect()
    options = BusOptions(relid_offset=100)
    bus = restored(script.bus.save(), options)
    for number in range(2, 1949):
        bus.host_message(0, device_link.Offer(number, UUID(int=1), UUID(int=number)))
    (refusal,) = bus.host_message(0, device_link.Offer(1949, UUID(int=1), UUID(int=1949)))
    relids = sorted(view.relid for view in bus.channels())

    assert "too many channels" in str(refusal)
    assert relids == [1, *range(101, 2048)]
    bus.host_message(0, device_link.Revoke(1))
    bus.guest_message(wire.encode(messages.RelidReleased(1)), 1)
    bus.host_message(0, device_link.Offer(1, UUID(int=1), UUID(int=1)))
    assert restored(bus.save(), options).channels()[-1].relid == 1
