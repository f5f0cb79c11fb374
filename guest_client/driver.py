"""What the author of a driver writes, and how a worker process finds it again by name.

One driver object per process serves all channels of its interface. With workers="thread" that is the object
that was registered; with workers="process" every worker process makes its own, by importing the class by name
and calling it with the driver's `config`, so what a channel must remember lives in `channel.state`.
"""

import importlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from vmbusd.abi.delivery import BUDGET_PACKETS, BUDGET_SECONDS, Mode
from vmbusd.abi.errors import UsageError

if TYPE_CHECKING:
    from guest_client.channel import Channel


class Driver:
    """Base of every driver: an interface GUID and the callbacks it cares about.

    A driver that has a method `on_packets(channel, packets)` gets a list of `packets.Packet` whenever the
    host has sent some, instead of `on_interrupt`; they are given back to the host when it returns. If it has
    `on_completion(channel, packet)` too, answers to `send(..., request=True)` go there. After the death of a
    worker process packets that it had not given back come again.

    Attributes: `config`, the string it was made with, handed to its twin in each worker process.
    """

    interface: UUID
    """The interface (class) GUID of the offers this driver takes."""
    pinned: bool = False
    """Its channels keep state in the process: they are never moved to another, and closed if it dies or goes
    because its VP goes offline. Threads of one process may serve them all."""
    slow: bool = False
    """Its channels are few and quiet: they all stay on VP 0 unless they are told otherwise (case 120)."""
    low_latency: bool = False
    """Signal the host at once, also where the offer has a monitor bit that the host would find by itself."""
    ring_pages: tuple[int, int] = (2, 2)
    """Pages of the guest-to-host and of the host-to-guest ring, the control page of each included."""

    mode: Mode = Mode.BATCHED
    """How `on_packets` is called; `Mode.ISR` leaves everything to `on_interrupt`."""
    budget_packets: int = BUDGET_PACKETS
    budget_seconds: float = BUDGET_SECONDS
    """What a channel may use up at a time; then the others have their turn."""

    def __init__(self, config: str = "") -> None:
        self.config = config

    def probe(self, channel: "Channel") -> "Future[None] | None":
        """A channel was offered; runs in the control process, one probe at a time. Opens it by default.

        May return a `Future` (as `begin_open` does), then the next probe need not wait for it. If it raises,
        there is no device: the channel is given back to the host (case 051).
        """
        return channel.begin_open()

    def on_subchannel(self, channel: "Channel", subchannel: "Channel") -> "Future[None] | None":
        """A subchannel of `channel` was offered, which has been added to `channel.subchannels`; where and as
        `probe`. Does nothing by default: a driver opens those that it asked for (case 116)."""

    def resumed(self, channel: "Channel") -> "Future[None] | None":
        """A channel that was open before a suspension is there again; where and as `probe`. Opens it."""
        return channel.begin_open()

    def on_interrupt(self, channel: "Channel") -> None:
        """The host signalled `channel`. Runs on some VP, never twice at a time for one channel."""

    def removed(self, channel: "Channel") -> None:
        """The channel is gone, or its guest ends; no callback runs or will run. In the control process."""


class DriverName(NamedTuple):
    """How to make a driver anywhere."""

    module: str
    qualname: str
    config: str

    def __str__(self) -> str:
        return f"{self.module}:{self.qualname}"


def name_of(driver: Driver) -> DriverName:
    """The name by which a worker process can make this driver. Raises UsageError when there is none."""
    cls = type(driver)
    if cls.__module__ == "__main__":
        raise UsageError(
            f"driver {cls.__qualname__} is defined in __main__, which no worker process can import"
        )
    if "<locals>" in cls.__qualname__:
        raise UsageError(
            f"driver {cls.__qualname__} is defined in a function: move it to the top of its module"
        )
    return DriverName(cls.__module__, cls.__qualname__, getattr(driver, "config", ""))


def parse_name(text: str) -> DriverName:
    """MODULE:CLASS or MODULE:CLASS=CONFIG. Raises UsageError."""
    path, _, config = text.partition("=")
    module, colon, qualname = path.partition(":")
    if not (module and colon and qualname):
        raise UsageError(f"driver {text!r}: write MODULE:CLASS or MODULE:CLASS=CONFIG")
    return DriverName(module, qualname, config)


def make(name: DriverName) -> Driver:
    """Import the class and make a driver of it. Raises UsageError, whose cause is what went wrong."""
    try:
        found: Any = importlib.import_module(name.module)
        for part in name.qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"driver {name}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Driver)):
        raise UsageError(f"driver {name} is no subclass of guest_client.Driver")
    maker: Callable[..., Driver] = found
    return checked(maker(name.config) if name.config else maker())


def checked(driver: Driver) -> Driver:
    """The driver itself, if it can be registered. Raises UsageError naming what is wrong."""
    kind = type(driver).__name__
    if not isinstance(getattr(driver, "interface", None), UUID):
        raise UsageError(f"driver {kind}: `interface` must be a uuid.UUID")
    if min(driver.ring_pages) < 1:
        raise UsageError(f"driver {kind}: `ring_pages` must both be at least 1, not {driver.ring_pages}")
    if hasattr(driver, "on_packets") and min(driver.ring_pages) < 2:
        raise UsageError(f"driver {kind}: `ring_pages` {driver.ring_pages} leave no page for packets")
    if driver.budget_packets < 1 or not driver.budget_seconds > 0:
        raise UsageError(f"driver {kind}: `budget_packets` and `budget_seconds` must allow something")
    return driver
