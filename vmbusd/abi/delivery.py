"""Packets to callbacks: one pass over a channel's incoming ring, by one of three modes, within a budget.

A pass reads batches, hands each to the callback and gives it back to the writer only when the callback has
returned: who dies in between has given back nothing, and the next reader gets the same packets again. The
ring is masked meanwhile, so a busy channel costs its peer no signals; at the end the mask is cleared and the
ring looked at once more (case 287). A channel that has used up its budget goes behind the others.
Source: Linux 6.1 drivers/hv/connection.c vmbus_on_event, channel_mgmt.c (HV_CALL_BATCHED, _DIRECT, _ISR).
"""

import enum
import time
from collections.abc import Callable
from typing import Final

from vmbusd.abi.native import RingBatch
from vmbusd.abi.packets import Packet, PacketType
from vmbusd.abi.rings import BATCH_BYTES, BATCH_PACKETS, Rings, packet_of

BUDGET_PACKETS: Final = 4096
"""Packets of one pass, for callbacks that are so quick that time alone would bound it badly."""
BUDGET_SECONDS: Final = 0.002
"""Time of one pass, looked at after each batch; what Linux storvsc allows itself."""


class Mode(enum.Enum):
    """How a channel's callback is called.

    BATCHED: masked while it runs, called until the ring is empty. DIRECT: never masked, so that the peer
    signals each time the ring was empty. ISR: only the signal callback, which does everything itself.
    """

    BATCHED = "batched"
    DIRECT = "direct"
    ISR = "isr"


def run_pass(
    rings: Rings,
    deliver: Callable[[list[Packet]], object],
    complete: Callable[[Packet], object] | None = None,
    *,
    mode: Mode = Mode.BATCHED,
    packets: int = BUDGET_PACKETS,
    seconds: float = BUDGET_SECONDS,
) -> bool:
    """Hand over what the ring holds. True: the budget is used up, and there must be another pass.

    Completions that a `request` waits for go to it, others to `complete`, without it to `deliver` in their
    place. Raises what a callback raised, when its batch has been given back: the ring is still masked then,
    and another pass must follow. Raises RingDead; nothing for a channel that is closed meanwhile.
    """
    port = rings.port
    end = time.monotonic() + seconds
    if mode is Mode.BATCHED and rings.reason is None:
        port.mask()
    while rings.reason is None:
        batch = port.get_many(min(packets, BATCH_PACKETS), BATCH_BYTES)
        if batch is None:
            if port.rest():
                return False
            continue
        packets -= len(batch)
        ended: list[int] = []
        try:
            _hand_over(rings, batch, ended, deliver, complete)
        finally:
            if rings.reason is None:
                for transaction_id in ended:
                    rings.requests.end(transaction_id)
                port.commit()
        if packets <= 0 or time.monotonic() >= end:
            return rings.reason is None
    return False


def _hand_over(
    rings: Rings,
    batch: RingBatch,
    ended: list[int],
    deliver: Callable[[list[Packet]], object],
    complete: Callable[[Packet], object] | None,
) -> None:
    """Sort a batch and call. `ended` gets the requests that are over once the callbacks have returned."""
    plain: list[Packet] = []
    for index in range(len(batch)):
        packet = packet_of(batch[index])
        if packet.type != PacketType.COMPLETION:
            plain.append(packet)
        elif _expected(rings, packet, ended):
            if complete is None:
                plain.append(packet)
            else:
                complete(packet)
    if plain and rings.reason is None:
        deliver(plain)


def _expected(rings: Rings, packet: Packet, ended: list[int]) -> bool:
    """Whether a callback gets this completion: not one of nothing, one twice, or one that a thread awaits."""
    transaction_id = packet.transaction_id
    word = None if transaction_id in ended else rings.requests.word(transaction_id)
    if word is None:
        rings.dropped += 1
        return False
    if word:
        rings.requests.end(transaction_id)
        rings.completed(word, packet.payload)
        return False
    ended.append(transaction_id)
    return True
