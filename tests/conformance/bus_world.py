"""The sans-IO bus as a world: effects become outputs at once, claims become free at once unless held.

The answers that a daemon's memory gives are given here too: a closed slot's claim (`option manual-claims`
holds it until `claim_free`) and the mapping of guest pages (`option manual-pages`, until `pages ok`). `save`
and `restore` do what a restarted daemon does: the bytes of the saved bus make a new one, and what the backend
had under way is begun again. With `RestoringBusWorld` that happens after every input.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from tests.conformance.script import Attributes, Script
from tests.conformance.world import CannotPlay, World
from vmbusd.abi.layout import DEFAULT_VPS
from vmbusd.bus import effects, saved
from vmbusd.bus.bus import Bus
from vmbusd.bus.effects import Effect
from vmbusd.bus.options import BusOptions

DEFAULT_PAGES: Final = 16384
"""Pages of guest memory: what a partition has by default."""
FEW: Final = 64
OPTION_NAMES: Final = {
    "max-version": "max_version",
    "cap": "max_version",
    "max-version-later": "max_version_later",
    "absolute-order": "absolute_order",
    "relid-offset": "relid_offset",
    "max-unfinished-gpadls": "max_unfinished_gpadls",
    "guest-pages": "guest_pages",
    "monitor-pages": "monitor_pages",
    "gpa-pinning": "gpa_pinning",
    "linked-vtls": "linked_vtls",
}
"""Options of a script that are options of the bus."""


def bus_options(options: dict[str, object]) -> BusOptions:
    """The bus options that a script names."""
    named = {OPTION_NAMES[name]: value for name, value in options.items() if name in OPTION_NAMES}
    return msgspec.convert(named, BusOptions)


class BusWorld(World):
    """A bus and a server that only answers."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self._options = bus_options(script.options)
        vps, pages = script.options.get("vps", DEFAULT_VPS), script.options.get("pages", DEFAULT_PAGES)
        assert isinstance(vps, int)
        assert isinstance(pages, int)
        self._vps, self._ram_pages = vps, pages
        self._bus = self._new()
        self._saved: bytes | None = None
        self._refused = 0
        self._now = 0.0
        self._claims: dict[int, int] = {}
        self._pages: list[int] = []
        self._waiting: deque[Callable[[], list[Effect]]] = deque()

    def _new(self) -> Bus:
        return Bus(vps=self._vps, ram_pages=self._ram_pages, options=self._options)

    def _restored(self, data: bytes) -> Bus:
        bus = Bus.restore(saved.decode(data), vps=self._vps, ram_pages=self._ram_pages, options=self._options)
        if saved.encode(bus.save()) != data:
            raise AssertionError("a restored bus is saved as something else")
        return bus

    def _input(self, name: str, *arguments: object, **named: object) -> None:
        """One input; what it leads to by itself follows before the next."""
        self._waiting.append(lambda: self._call(name, arguments, named))
        while self._waiting:
            for effect in self._waiting.popleft()():
                self._carry_out(effect)

    def _call(self, name: str, arguments: tuple[object, ...], named: dict[str, object]) -> list[Effect]:
        method: Callable[..., list[Effect]] = getattr(self._bus, name)
        return method(*arguments, **named)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case effects.SendToGuest(data=data, vp=vp, sint=sint):
                self.put("G", 0, data, vp, sint)
            case effects.AskHost(host=host, message=message):
                self.put("H", host, message)
            case effects.Refused():
                self._refused += 1
            case effects.CloseSlot():
                self.put("B", 0, effect)
                self._watch(effect)
            case effects.ModifyPages(ticket=ticket):
                self.put("B", 0, effect)
                self._pages.append(ticket)
                if not self.script.options.get("manual-pages"):
                    self._waiting.append(lambda: self._mapped(ticket, True))
            case _:
                self.put("B", 0, effect)

    def _watch(self, close: effects.CloseSlot) -> None:
        self._claims[close.flag] = close.generation
        if not self.script.options.get("manual-claims"):
            self._waiting.append(lambda: self._free(close.flag))

    def _free(self, flag: int) -> list[Effect]:
        return self._call("claim_free", (flag, self._claims.pop(flag)), {})

    def _mapped(self, ticket: int, ok: bool) -> list[Effect]:
        self._pages.remove(ticket)
        return self._call("pages_modified", (ticket, ok), {})

    # -- inputs ----------------------------------------------------------------------------------------------

    def guest(self, data: bytes, attributes: Attributes) -> None:
        connection = 1 if attributes.connection is None else attributes.connection
        trusted = attributes.trusted
        if trusted is None:
            trusted = bool(self.script.options.get("trusted"))
        named: dict[str, object] = {"trusted": trusted}
        if attributes.vtl:
            raise CannotPlay(f"messages of VTL {attributes.vtl} go to another server")
        self._input("guest_message", data, connection, **named)

    def host(self, host: int, message: msgspec.Struct) -> None:
        self._input("host_message", host, message)

    def happen(self, name: str, numbers: tuple[int, ...]) -> None:
        if name in ("host_gone", "host_dead"):
            self._input(name, *(numbers or (0,)))
        elif name == "host_reconnect":
            self._input("host_dead", *(numbers or (0,)))
        elif name == "guest_reconnect":
            self._input("guest_gone")
        elif name == "claim_free":
            self._claim(numbers[0])
        elif name in ("pages_ok", "pages_failed"):
            if not self._pages:
                raise CannotPlay("nobody asked for pages")
            ticket = self._pages[0]
            self._waiting.append(lambda: self._mapped(ticket, name == "pages_ok"))
            self._flush()
        elif name in ("guest_ready", "guest_blocked"):
            self._input("guest_output", name == "guest_ready")
        elif name == "save":
            self._saved = saved.encode(self._bus.save())
        elif name == "restore":
            self._restore()
        elif name not in ("guest_attach", "host_attach"):
            self._input(name, *numbers)

    def _claim(self, flag: int) -> None:
        if flag not in self._claims:
            raise CannotPlay(f"flag {flag} has no claim that is waited for")
        self._waiting.append(lambda: self._free(flag))
        self._flush()

    def _flush(self) -> None:
        while self._waiting:
            for effect in self._waiting.popleft()():
                self._carry_out(effect)

    def _restore(self) -> None:
        """A new daemon; without a `save` before, one that knows nothing."""
        self._bus = self._new() if self._saved is None else self._restored(self._saved)
        picture = self._bus.picture()
        self._claims.clear()
        self._pages.clear()
        for close in picture.closing:
            self._watch(close)
        if picture.modifying is not None:
            self._carry_out(picture.modifying)
        self._flush()

    def advance(self, milliseconds: int) -> None:
        self._now += milliseconds / 1000
        self._input("tick", self._now)

    # -- outputs ---------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Everything has come out already."""

    def wait(self, who: str, host: int) -> bool:
        return False

    def close(self) -> None:
        """A bus is only memory."""

    def state(self, name: str, number: int | None) -> object:
        bus: Any = self._bus
        if name == "connection":
            return bus.state, bus.version
        if name == "refused":
            return self._refused
        if name == "open":
            return sum(view.state == "open" for view in bus.channels())
        if name == "channel":
            view = next((view for view in bus.channels() if view.relid == number), None)
            return msgspec.structs.asdict(view) if view else None
        statistics = msgspec.structs.asdict(bus.statistics())
        if name not in statistics:
            inspected = getattr(bus, name)
            return int(inspected) if isinstance(inspected, bool) else inspected
        return statistics[name]


class RestoringBusWorld(BusWorld):
    """A daemon that is restarted after every input, while it has few channels."""

    def _call(self, name: str, arguments: tuple[object, ...], named: dict[str, object]) -> list[Effect]:
        done = super()._call(name, arguments, named)
        if self._bus.statistics().channels <= FEW:
            self._bus = self._restored(saved.encode(self._bus.save()))
        return done
