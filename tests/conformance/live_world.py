"""A live daemon as a world: a raw guest link and raw host links, packet by packet, in a partition per script.

No waiting for silence: a daemon's status counts the packets it has read from each link, and what they lead to
is sent before it reads on, so once the counts agree, what is not in the sockets will not come.
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from tests import leftovers
from tests.conformance import script
from tests.conformance.script import Attributes, Script
from tests.conformance.world import CannotPlay, World
from tests.live.daemon import Daemon, eventually
from vmbusd.abi import device_link, layout, link, wire
from vmbusd.abi.attach import Attached, attach
from vmbusd.abi.errors import LinkClosed
from vmbusd.abi.link import Role
from vmbusd.ctl.client import AdminClient
from vmbusd.server import requests

OPTIONS: Final = {
    "vps",
    "pages",
    "max-version",
    "cap",
    "relid-offset",
    "absolute-order",
    "trusted",
    "guest-pages",
}
"""Options that a partition of a daemon has too."""
HAPPENINGS: Final = {"silence", "guest_gone", "guest_attach", "host_gone", "host_dead", "host_attach"}
RECONNECTS: Final = {"guest_reconnect": "guest", "host_reconnect": "host"}
STATES: Final = {
    "connected",
    "connecting",
    "disconnected",
    "disconnecting",
    "channels",
    "refused",
    "open",
    "channel",
}


def why_not_live(played: Script) -> str:
    """Why a script is for the sans-IO bus alone, "" if it is not."""
    if played.side == "guest" or played.only == "bus":
        return "it is not for a daemon"
    foreign = sorted(set(played.options) - OPTIONS)
    if foreign:
        return f"a daemon has no option {foreign[0]}"
    for line in played.statements:
        match line:
            case script.Advance():
                return "time passes"
            case script.Message(who="B"):
                return "a daemon does not tell what it does beside sending"
            case script.Message(into=True) if line.attributes.trusted is not None or line.attributes.vtl:
                return "a link has no trust or VTL of a message"
            case script.Message() if max(len(line.raw or b""), line.attributes.size or 0) > wire.MAX_MESSAGE:
                return "a link ends at a message that is too long"
            case script.Happening(name=name) if name not in HAPPENINGS | set(RECONNECTS):
                return f"nobody can bring about {name}"
            case script.State(name=name) if name not in STATES:
                return f"status has no {name}"
    return ""


class Daemons:
    """One daemon for all scripts of a run, started when the first one needs it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._running: Daemon | None = None
        self._admin: AdminClient | None = None
        self._count = 0

    def __enter__(self) -> "Daemons":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> Daemon:
        if self._running is None:
            directory = leftovers.make_directory()
            self._stack.callback(shutil.rmtree, directory)
            self._running = Daemon(directory)
            self._stack.callback(self._running.close)
            self._running.wait_ready()
            self._admin = self._stack.enter_context(AdminClient(directory))
        return self._running

    def ask(self, request: requests.Request) -> dict[str, Any]:
        """The result of an admin request."""
        assert self._admin is not None
        return self._admin.ask(request)

    @contextmanager
    def partition(self, played: Script) -> Iterator[tuple[Path, str]]:
        """A partition of its own: the runtime directory and the partition's name."""
        running = self._start()
        self._count += 1
        name = f"script-{self._count}"
        # Any: the reader has fitted each value to its option.
        given: dict[str, Any] = dict(played.options)
        newest = given.get("max-version", given.get("cap"))
        self.ask(
            requests.PartitionAdd(
                name,
                given.get("vps", layout.DEFAULT_VPS),
                given["pages"] * layout.PAGE if "pages" in given else layout.DEFAULT_RAM_SIZE,
                max_version=None if newest is None else f"{newest >> 16}.{newest & 0xFFFF}",
                relid_offset=given.get("relid-offset", 0),
                absolute_order=given.get("absolute-order", False),
                trusted=given.get("trusted", False),
                guest_pages=given.get("guest-pages", False),
            )
        )
        try:
            yield running.runtime_dir, name
        finally:
            self.ask(requests.PartitionRemove(name))


class End:
    """One of our links. `sent` counts our packets, `base` those that the daemon had read before."""

    def __init__(self, attached: Attached, base: int) -> None:
        self.attached = attached
        self.base = base
        self.sent = 0

    def send(self, packet: bytes) -> None:
        """Send one packet."""
        self.sent += 1
        self.attached.send(packet)


class LiveWorld(World):
    """A partition, its guest link and its host links."""

    def __init__(self, played: Script, daemons: Daemons) -> None:
        super().__init__(played)
        self._daemons = daemons
        self._stack = ExitStack()
        self._runtime_dir, self._name = self._stack.enter_context(daemons.partition(played))
        self._guest: End | None = None
        self._hosts: dict[int, End] = {}
        try:
            self._attach_guest()
        except BaseException:
            self._stack.close()
            raise

    def close(self) -> None:
        for end in (self._guest, *self._hosts.values()):
            if end is not None:
                end.attached.close()
        self._stack.close()

    def _status(self) -> dict[str, Any]:
        views: list[dict[str, Any]] = self._daemons.ask(requests.Status())["partitions"]
        return next(view for view in views if view["name"] == self._name)

    def _attach_guest(self) -> None:
        attached = attach(Role.GUEST_CONTROL, self._name, runtime_dir=self._runtime_dir)
        self._guest = End(attached, self._status()["guest"]["packets_in"])

    def _host(self, number: int) -> End:
        for missing in range(number + 1):
            if missing not in self._hosts:
                attached = attach(Role.HOST, self._name, runtime_dir=self._runtime_dir)
                got = attached.welcome.link
                if got != missing:
                    attached.close()
                    raise CannotPlay(f"host link {missing} cannot be had, the daemon gave {got}")
                base = next(view for view in self._status()["hosts"] if view["link"] == missing)["packets_in"]
                self._hosts[missing] = End(attached, base)
        return self._hosts[number]

    # -- inputs ----------------------------------------------------------------------------------------------

    def guest(self, data: bytes, attributes: Attributes) -> None:
        if self._guest is None:
            raise CannotPlay("the guest is gone: `guest attach` first")
        connection = link.MESSAGE_CONNECTION_OLD if attributes.connection is None else attributes.connection
        try:
            self._guest.send(link.encode_message(data, where=connection))
        except LinkClosed as error:
            raise CannotPlay(f"the daemon ended the guest's link: {error}") from error

    def host(self, host: int, message: msgspec.Struct) -> None:
        self._host(host).send(device_link.encode(message))  # type: ignore[arg-type]

    def happen(self, name: str, numbers: tuple[int, ...]) -> None:
        number = numbers[0] if numbers else 0
        if name in ("guest_gone", "guest_reconnect"):
            self._leave_guest()
        if name in ("guest_attach", "guest_reconnect"):
            self._attach_guest()
        if name in ("host_gone", "host_dead", "host_reconnect"):
            self._leave_host(number, orderly=name != "host_gone")
        if name in ("host_attach", "host_reconnect"):
            self._host(number)

    def _leave_guest(self) -> None:
        if self._guest is not None:
            self.settle()
            self._guest.attached.close()
            self._guest = None
            eventually(lambda: self._status()["guest"] is None, "the daemon sees the guest gone")

    def _leave_host(self, number: int, *, orderly: bool) -> None:
        end = self._host(number)
        if orderly:
            end.send(link.encode(link.Detached(number)))
        end.attached.close()
        del self._hosts[number]

        def is_gone() -> bool:
            return not any(view["link"] == number and view["linked"] for view in self._status()["hosts"])

        eventually(is_gone, f"the daemon sees host {number} gone")

    def advance(self, milliseconds: int) -> None:
        raise CannotPlay("a live daemon's time cannot be advanced")

    # -- outputs ---------------------------------------------------------------------------------------------

    def settle(self) -> None:
        def is_quiet() -> bool:
            status = self._status()
            read = {view["link"]: view["packets_in"] for view in status["hosts"]}
            guest, ours = status["guest"], self._guest
            return (
                (ours is None or guest is None or guest["packets_in"] >= ours.base + ours.sent)
                and all(read.get(j, 0) >= end.base + end.sent for j, end in self._hosts.items())
                and not status["closing"]
            )

        eventually(is_quiet, "the daemon has read what was sent")
        if self._guest is not None:
            self._read("G", 0, self._guest.attached)
        for number, end in self._hosts.items():
            self._read("H", number, end.attached)

    def _read(self, who: str, host: int, attached: Attached) -> None:
        while True:
            try:
                got = attached.receive_nowait()
            except LinkClosed as error:
                raise CannotPlay(f"the daemon ended the link: {error}") from error
            if got is None:
                return
            packet, fds = got
            header = link.decode_header(packet)
            if header.kind == link.Kind.HOST_LINK:
                attached.add_host_link(packet, fds)
            elif header.kind == link.Kind.MESSAGE:
                self.put(who, host, packet[link.HEADER.size :], header.where, header.sint)
            else:
                self.put(who, host, device_link.decode(header, packet))

    def wait(self, who: str, host: int) -> bool:
        before = len(self._to(who, host))
        self.settle()
        return len(self._to(who, host)) > before

    def _to(self, who: str, host: int) -> list[object]:
        return [output for output in self.outputs if (output.who, output.host) == (who, host)]

    def state(self, name: str, number: int | None) -> object:
        self.settle()
        status = self._status()
        if name == "connection":
            text = status["version"]
            major, _, minor = (text or "0.0").partition(".")
            return status["connection"], int(major) << 16 | int(minor)
        if name == "refused":
            return status["counters"].get("refused", 0)
        if name == "channels":
            return status["channels"]
        channels = self._daemons.ask(requests.Channels(self._name))["channels"]
        if name == "open":
            return sum(view["state"] == "open" for view in channels)
        return next((view for view in channels if view["relid"] == number), None)
