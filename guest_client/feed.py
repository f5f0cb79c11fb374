"""The host's signals on their way to a driver: passes over the incoming ring, and callbacks that wait.

A VP's thread that waits for room naps on its own doorbell, in short slices: a channel that was moved is
signalled elsewhere, and there a claim held here is only noted. The channel's own flag is taken during a nap
and set again when the callback ends; flags of other channels stay on the page until then.

With worker processes several processes use one channel's rings. The claim says who may read, a lock in the
channel's block who may write, and everything read is given back before the claim is let go, so whoever has
it next goes on from there. Only a callback can wait then: nobody else is woken.
Source: docs/rings.md section 7; docs/signal-protocol.md section 4.
"""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from vmbusd.abi import layout
from vmbusd.abi.delivery import Mode, run_pass
from vmbusd.abi.errors import ChannelGone, LinkClosed, RingDead, UsageError
from vmbusd.abi.link import Object
from vmbusd.abi.native import EventFlags, Registry, Requests, RingView, Worker
from vmbusd.abi.rings import Rings, map_rings

if TYPE_CHECKING:
    from guest_client.channel import Channel
    from guest_client.driver import Driver
    from guest_client.space import Space

log = logging.getLogger(__name__)

NAP: Final = 0.01
"""Seconds between looks of a waiting callback: what it waits for may be announced on another VP."""


class _Here(threading.local):
    """The VP that the calling thread plays, if any; `must_end`: whether its callbacks may wait no longer."""

    vp: int = 0
    worker: Worker | None = None
    must_end: Callable[[], bool] = staticmethod(lambda: False)


HERE: Final = _Here()


def takes_packets(driver: "Driver | None") -> bool:
    """Whether packets of this driver's channels are handed to `on_packets`."""
    return driver is not None and driver.mode is not Mode.ISR and hasattr(driver, "on_packets")


class Feed:
    """What of one process has to do with packets.

    Attributes: `shared`, whether other processes use the same rings; `owner`, the VP of this process, None in
    the control process and where VPs are threads.
    """

    def __init__(
        self, space: "Space", registry: Registry, *, shared: bool = False, owner: int | None = None
    ) -> None:
        self.shared = shared
        self.owner = owner
        self._space = space
        self._registry = registry

    # -- callbacks -----------------------------------------------------------------------------------------

    def bind(self, channel: "Channel") -> Callable[["Channel"], object]:
        """Have interrupts of the channel's present open served; returns what serves them."""
        assert channel.driver is not None
        call: Callable[[Channel], object] = channel.driver.on_interrupt
        if channel.made is not None or takes_packets(channel.driver):
            call = self.serve
        self._registry.bind(channel.event_flag, channel.generation, call, channel)
        return call

    def serve(self, channel: "Channel") -> None:
        """One callback of a channel with rings, under its claim. Raises what the driver raised."""
        worker, driver = HERE.worker, channel.driver
        assert worker is not None
        assert driver is not None
        channel.served = True
        more = False
        try:
            rings = channel.rings()
            rings.signalled()
            rings.port.resume()
            if takes_packets(driver):
                more = self._pass(channel, rings, driver)
            else:
                driver.on_interrupt(channel)
        except RingDead as error:
            log.error("%r: %s", channel, error)
            channel.end(str(error))
        except ChannelGone as error:
            # What ends a callback whose channel goes away meanwhile; of another channel it is a failure.
            if channel.is_open and channel.made is not None:
                raise
            log.info("%r: %s", channel, error)
        finally:
            channel.served = False
            if more or channel.owed:
                channel.owed = False
                worker.again(channel.event_flag)

    def _pass(self, channel: "Channel", rings: Rings, driver: "Driver") -> bool:
        """A callback that raises is told after the pass: cut short, that would leave the ring masked."""
        errors: list[Exception] = []

        def call(callback: Callable[[Any, Any], object], packets: object) -> None:
            try:
                callback(channel, packets)
            except Exception as error:  # noqa: BLE001
                errors.append(error)

        on_completion = getattr(driver, "on_completion", None)
        more = run_pass(
            rings,
            partial(call, driver.on_packets),  # type: ignore[attr-defined]
            on_completion and partial(call, on_completion),
            mode=driver.mode,
            packets=driver.budget_packets,
            seconds=driver.budget_seconds,
        )
        if errors:
            if more:
                channel.owed = True
            raise errors[0]
        return more

    # -- rings ---------------------------------------------------------------------------------------------

    def rings_of(self, channel: "Channel") -> Rings:
        """Map the rings of an open channel. Raises UsageError, ResourceError, RingDead, LinkClosed."""
        space, flag = self._space, channel.event_flag
        blocks, table = space.attached[Object.GUEST], space.attached[Object.TABLE]
        host = space.hosts.sender(channel.host_link)
        together: dict[str, Any] = {}
        if self.shared:
            together = {
                "blocks": blocks,
                "owner": self.owner,
                "table": table,
                "generation": channel.generation,
            }
        name = f"relid {channel.relid}"
        out, into = map_rings(space.attached.ram_fd, channel.ring_pages, space.blocks.ring(flag)[2], name)
        return Rings(
            name,
            out,
            into,
            changed=threading.Condition(),
            requests=Requests(blocks, flag),
            shared=self.shared,
            pump=partial(self._pump, channel),
            host=host,
            flag=flag,
            **together,
        )

    def is_inside(self, channel: "Channel") -> bool:
        """Whether the calling thread runs a callback of this very channel."""
        claim = self._space.blocks.claim(channel.event_flag)
        return HERE.worker is not None and claim & ~layout.CLAIM_AGAIN == layout.CLAIM_RUN | HERE.vp

    def _pump(self, channel: "Channel", seconds: float) -> bool:
        """See `ring_wait.Waiting`: a VP's thread looks for its signals itself."""
        worker = HERE.worker
        if worker is None:
            if self.shared:
                raise UsageError(
                    f"relid {channel.relid}: only a callback can wait when VPs are processes: use timeout=0"
                )
            return False
        mine = channel.served and self.is_inside(channel)
        if worker.nap(channel.event_flag if mine else 0, min(seconds, NAP)):
            channel.owed = True
        if not channel.is_open:
            channel.end(f"relid {channel.relid} was closed or rescinded")
        elif HERE.must_end():
            raise LinkClosed(f"relid {channel.relid}: the worker of VP {HERE.vp} is told to stop")
        elif channel.made is not None:
            channel.made.signalled()
        return True

    def unstick(self, channel: "Channel") -> bool:
        """Wake who sleeps on something that a ring has (case 296): the host, or the channel's VP.

        For the moments when a wake-up may have been lost: the answer to an open, the death of a worker. True
        when somebody was woken. Raises RingDead.
        """
        space = self._space
        first, pages, downstream, _ = space.blocks.ring(channel.event_flag)
        if not channel.is_open or not pages:
            return False
        memory = space.attached[Object.RAM]
        out = RingView(memory, first * layout.PAGE, (downstream - 1) * layout.PAGE)
        into = RingView(memory, (first + downstream) * layout.PAGE, (pages - downstream - 1) * layout.PAGE)
        theirs = out.stuck()[0] or into.stuck()[1]
        ours = into.stuck()[0] or out.stuck()[1]
        out.release()
        into.release()
        if theirs:
            channel.signal()
        if ours:
            self._wake(channel)
        return theirs or ours

    def _wake(self, channel: "Channel") -> None:
        """Have the channel's VP look, as a sender does it: its target may move meanwhile."""
        attached = self._space.attached
        vp = channel.target_vp
        while vp < len(attached.vp_doorbells):
            EventFlags(attached[Object.EVENTS], vp * layout.EVENT_PAGE_SIZE).set(channel.event_flag)
            attached.vp_doorbells[vp].ring()
            before, vp = vp, channel.target_vp
            if vp == before:
                break
