"""Message slots at work: a host that puts messages into the pages of VPs, a guest that takes them out.

The two rules of message slots. The host never overwrites a message, keeps what does not fit in order,
says so in the slot, and then looks again, because the guest may have emptied the slot before it could see
that. The guest works on a copy, frees the slot, and only then reads whether more waits. The first word of a
slot holds type, size and flags together: a message appears, is taken, and is marked "more waits" each by one
atomic operation on it. Nothing here waits or interrupts: what is to be done is returned.
Source: Linux 6.1 drivers/hv/vmbus_drv.c vmbus_on_msg_dpc, include/asm-generic/mshyperv.h vmbus_signal_eom.
"""

import enum
from collections import deque
from collections.abc import Sequence
from typing import Final

from typing_extensions import Buffer

from vmbusd.abi import native, wire
from vmbusd.abi.errors import ProtocolError, UsageError
from vmbusd.abi.layout import PAGE, SINT
from vmbusd.abi.synic import (
    MESSAGE_TYPE_NONE,
    MESSAGE_TYPE_VMBUS,
    SINTS,
    SLOT_SIZE,
    SlotMessage,
    decode_slot,
    encode_slot,
    slot_offset,
)

MAX_QUEUED: Final = 4096
"""Messages that wait for one slot: as many as all offers and their rescinds together."""
_TYPE: Final = 0xFFFFFFFF
_PENDING: Final = 1 << 40
_WORD: Final = 8
_WORDS: Final = SLOT_SIZE // _WORD


class Post(enum.Enum):
    """What became of a posted message."""

    RAISE = "raise"
    """It, or one before it, stands in the slot now: interrupt the SINT."""
    QUEUED = "queued"
    """It waits; whoever empties the slot will say EOM."""
    INVALID_STATE = "invalid SynIC state"
    """The SINT is masked or the VP has no message page (status 0x18)."""
    NO_BUFFERS = "insufficient buffers"
    """Too many wait (status 19); the caller must try again, nothing was dropped."""


class MessagePage:
    """The host's side of one VP's message page, 16 slots with a queue each.

    Args: `page`, 4096 writable bytes that the guest has mapped too.
    """

    def __init__(self, page: Buffer) -> None:
        self._words = native.Words(page, 0, PAGE // _WORD)
        self._queues: tuple[deque[bytes], ...] = tuple(deque() for _ in range(SINTS))
        self._masked = [False] * SINTS

    def mask(self, sint: int, masked: bool) -> None:
        """The guest masked or unmasked a SINT: what is posted to a masked one is refused."""
        slot_offset(sint)
        self._masked[sint] = masked

    def queued(self, sint: int) -> int:
        """Messages that wait for a slot."""
        return len(self._queues[sint])

    def post(self, sint: int, message: SlotMessage) -> Post:
        """Deliver a message, behind all that wait. Raises UsageError for a message no slot can hold."""
        slot_offset(sint)
        if message.message_type == MESSAGE_TYPE_NONE:
            raise UsageError("a message of type 0 would leave the slot free")
        slot = encode_slot(message)
        if self._masked[sint]:
            return Post.INVALID_STATE
        queue = self._queues[sint]
        if len(queue) >= MAX_QUEUED:
            return Post.NO_BUFFERS
        queue.append(slot)
        return Post.RAISE if self._deliver(sint) else Post.QUEUED

    def eom(self) -> list[int]:
        """The guest wrote the EOM register: look at every queue. Returns the SINTs to interrupt.

        Harmless when nothing waits, and however often and from wherever it comes.
        """
        waiting = [sint for sint in range(SINTS) if self._queues[sint] and not self._masked[sint]]
        return [sint for sint in waiting if self._deliver(sint)]

    def clear(self) -> None:
        """Forget what waits: the guest left or reset its SynIC."""
        for queue in self._queues:
            queue.clear()

    def _deliver(self, sint: int) -> bool:
        """Put the oldest waiting message into the slot if it is free; say in the slot that others wait."""
        queue, first = self._queues[sint], sint * _WORDS
        if self._words.load(first) & _TYPE:
            # A full barrier stands between this and the second look, else both sides could miss each other.
            self._words.or_(first, _PENDING)
            if self._words.load(first) & _TYPE:
                return False
        slot = queue.popleft()
        for index in range(1, _WORDS):
            at = index * _WORD
            self._words.store(first + index, int.from_bytes(slot[at : at + _WORD], "little"))
        head = int.from_bytes(slot[:_WORD], "little")
        # Type, size and flags in one release store, last: the guest sees a whole message or none.
        self._words.store(first, head | (_PENDING if queue else 0))
        return True


class Synic:
    """The message pages of all VPs of a partition.

    Args: `pages`, one per VP.
    """

    def __init__(self, pages: Sequence[Buffer]) -> None:
        self.vps = tuple(MessagePage(page) for page in pages)

    def post(self, vp: int, sint: int, message: SlotMessage) -> Post:
        """Deliver a message to a VP. Raises UsageError for a VP, SINT or message there cannot be."""
        if not 0 <= vp < len(self.vps):
            raise UsageError(f"VP {vp} is not in 0..{len(self.vps) - 1}")
        return self.vps[vp].post(sint, message)

    def eom(self, vp: int | None = None) -> list[tuple[int, int]]:
        """An EOM of VP `vp`, or of one that the backend cannot tell. Returns (VP, SINT) to interrupt."""
        looked = range(len(self.vps)) if vp is None else (vp,)
        return [(number, sint) for number in looked for sint in self.vps[number].eom()]


class MessageReader:
    """The guest's side of one slot: takes messages out, keeps private copies, hands on the good ones.

    Args: `page`, the VP's message page; `sint`. Attributes: `connected`, set by the guest: what was taken
    while it is not is dropped when it is looked at; `dropped`, messages that were no messages.
    """

    def __init__(self, page: Buffer, sint: int = SINT) -> None:
        self._view = memoryview(page)[slot_offset(sint) : slot_offset(sint) + SLOT_SIZE]
        self._words = native.Words(page, slot_offset(sint), _WORDS)
        self._taken: deque[bytes] = deque()
        self.connected = True
        self.dropped = 0

    def interrupt(self) -> bool:
        """The SINT was raised: take the message, free the slot. Returns whether EOM must be written now."""
        kind = self._words.load(0) & _TYPE
        if kind == MESSAGE_TYPE_NONE:
            return False
        copy = bytes(self._view)
        self._take(kind, copy)
        # One compare-and-swap on the type: the flags beside it may change meanwhile, so it may need turns.
        word = self._words.load(0)
        while word & _TYPE == kind:
            if self._words.compare_exchange(0, word, word & ~_TYPE):
                # From the shared slot, after it was freed: only now can no "more waits" be missed.
                return bool(self._words.load(0) & _PENDING)
            word = self._words.load(0)
        return False

    def messages(self) -> list[bytes]:
        """The payloads taken so far, in order; none of a guest that is not connected."""
        taken, self._taken = self._taken, deque()
        if self.connected:
            return list(taken)
        self.dropped += len(taken)
        return []

    def _take(self, kind: int, slot: bytes) -> None:
        try:
            payload = decode_slot(slot).payload
            if kind != MESSAGE_TYPE_VMBUS:
                raise ProtocolError(f"message type {kind:#x}")
            wire.check_size(payload)
        except ProtocolError:
            self.dropped += 1
        else:
            self._taken.append(payload)
