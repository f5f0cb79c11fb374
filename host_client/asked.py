"""What the bus asks of a host's devices: opens, closes, GPADLs, moves. Each is carried out once and answered.

All is called under the core's monitor. Source: docs/design.md section 4; the acknowledgements are those of
section 2.
"""

import logging
from collections.abc import Callable
from typing import Final

from host_client.channel import Channel
from host_client.feed import Call, Feed
from host_client.offer import Offer
from vmbusd.abi import device_link, gpadl, layout
from vmbusd.abi.attach import Attached
from vmbusd.abi.errors import ProtocolError, VmbusError
from vmbusd.abi.link import Object
from vmbusd.abi.native import Sender

log = logging.getLogger(__name__)

STATUS_OK: Final = 0
STATUS_FAILED: Final = 0x8000_FFFF
"""E_UNEXPECTED, what real hosts answer too; any status with bit 31 is a failure."""


class Asked:
    """The requests of the bus on one host link. `answer` sends, `call` runs a callback of a device."""

    def __init__(
        self,
        attached: Attached,
        sender: Sender,
        feed: Feed,
        counts: dict[str, int],
        answer: Callable[[device_link.FromHost], None],
        call: Call,
    ) -> None:
        self._attached = attached
        self._sender = sender
        self._feed = feed
        self._counts = counts
        self._answer = answer
        self._call = call
        self._ram_pages = attached.welcome.ram_size // layout.PAGE

    def open(self, offer: Offer, message: device_link.Open) -> None:
        if offer.channel is not None:
            raise ProtocolError(f"Open for offer {offer.id}, which is open")
        status = STATUS_FAILED
        try:
            ranges = offer.gpadls.get(message.ring_gpadl)
            if ranges is None:
                raise ProtocolError(f"ring GPADL {message.ring_gpadl:#x} is unknown")
            gpadl.check_ring(ranges, message.downstream_page)
            channel = self._channel(offer, message, ranges[0].pfns)
        except VmbusError as error:
            log.error("offer %d relid %d: open refused: %s", offer.id, message.relid, str(error))
        else:
            # Before the handler: it may signal, and the guest may signal back at once.
            offer.channel = self._feed.by_flag[channel.event_flag] = channel
            if self._call(offer.device.on_open, channel):
                status = STATUS_OK
            else:
                self._forget(offer)
        self._counts["opens" if status == STATUS_OK else "open_failures"] += 1
        self._answer(device_link.Opened(offer.id, message.generation, status))
        if offer.channel is not None:
            self._feed.opened(offer.channel)

    def _channel(self, offer: Offer, message: device_link.Open, pfns: tuple[int, ...]) -> Channel:
        rings, memory = self._feed.rings_of, self._attached[Object.RAM]
        channel = Channel(self._sender, offer, message, pfns, self._attached.page, rings, memory)
        channel.live = True
        try:
            self._feed.opening(channel)
        except VmbusError:
            channel.release()
            raise
        return channel

    def close(self, offer: Offer, message: device_link.Close) -> None:
        if offer.channel is not None and offer.channel.generation == message.generation:
            self.end_channel(offer, "the guest closed it")
            self._counts["closes"] += 1
        self._answer(device_link.Closed(offer.id, message.generation))
        for handle in sorted(offer.torn_down):
            self._tear_down(offer, handle)

    def end_channel(self, offer: Offer, why: str) -> None:
        """Stop signalling, tell the device, take the rings away.

        this thread                          any other thread, inside one native call, GIL held throughout
        1  live = False                      a  load live
        2  on_close, rings released          b  or the bit, ring
        3  Closed, Retargeted, TornDown      -

        Forbidden: b after 3. The GIL orders 1 against the whole of a-b: either the call ended before 1, or it
        begins after 1 and does nothing. That is what the answer of step 3 tells the bus.
        """
        channel = offer.channel
        if channel is not None:
            channel.live = False
            self._feed.closing(channel, f"{channel.name} is closed: {why}")
            self._call(offer.device.on_close, channel)
            self._forget(offer)

    def _forget(self, offer: Offer) -> None:
        channel, offer.channel = offer.channel, None
        if channel is not None:
            channel.release()
            self._feed.by_flag.pop(channel.event_flag, None)

    def gpadl(self, offer: Offer, message: device_link.Gpadl) -> None:
        status = STATUS_OK
        try:
            if message.gpadl in offer.gpadls:
                raise ProtocolError(f"GPADL {message.gpadl:#x} exists already")
            ranges = gpadl.decode_ranges(message.ranges, message.range_count)
            highest = max(max(one.pfns) for one in ranges)
            if highest >= self._ram_pages:
                raise ProtocolError(f"page {highest:#x}, guest memory has {self._ram_pages} pages")
            offer.gpadls[message.gpadl] = ranges
        except ProtocolError as error:
            # The guest's fault, or a bus that let it pass: no reason to end the link of every other device.
            log.error("offer %d: GPADL %#x refused: %s", offer.id, message.gpadl, str(error))
            status = STATUS_FAILED
        self._answer(device_link.GpadlAccepted(offer.id, message.gpadl, status))

    def teardown(self, offer: Offer, message: device_link.Teardown) -> None:
        if offer.channel is not None and offer.channel.ring_gpadl == message.gpadl:
            offer.torn_down.add(message.gpadl)
        else:
            self._tear_down(offer, message.gpadl)

    def _tear_down(self, offer: Offer, handle: int) -> None:
        offer.torn_down.discard(handle)
        offer.gpadls.pop(handle, None)
        self._answer(device_link.GpadlTornDown(offer.id, handle))

    def retarget(self, offer: Offer, message: device_link.Retarget) -> None:
        channel = offer.channel
        if channel is not None and channel.generation == message.generation:
            # The table says so already; a signal call that had loaded the old target held the GIL to its end.
            channel.target_vp = message.vp
            self._call(offer.device.on_retarget, channel, message.vp)
            self._counts["retargets"] += 1
        self._answer(device_link.Retargeted(offer.id, message.generation, message.vp, STATUS_OK))
