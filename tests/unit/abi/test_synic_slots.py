"""Message slots: nothing is overwritten, lost or reordered, and neither side is left waiting."""

import random
import threading

import pytest

from vmbusd.abi import messages, synic, wire
from vmbusd.abi.errors import UsageError
from vmbusd.abi.layout import PAGE, SINT
from vmbusd.abi.synic import SlotMessage
from vmbusd.abi.synic_slots import MAX_QUEUED, MessagePage, MessageReader, Post, Synic

FREE = bytes(4)


def rescind(relid: int) -> SlotMessage:
    return SlotMessage(synic.MESSAGE_TYPE_VMBUS, wire.encode(messages.Rescind(relid)))


def relids(payloads: list[bytes]) -> list[int]:
    return [int.from_bytes(payload[8:12], "little") for payload in payloads]


def slot(page: bytearray, sint: int = SINT) -> SlotMessage:
    return synic.decode_slot(bytes(page[sint * 256 : sint * 256 + 256]))


def test_a_message_appears_in_the_slot_of_its_sint() -> None:
    """Slot n begins at n * 256; the other slots stay free."""
    page = bytearray(PAGE)

    assert MessagePage(page).post(5, SlotMessage(1, b"payload!", sender=7)) is Post.RAISE

    assert slot(page, 5) == SlotMessage(1, b"payload!", 7)
    assert not any(page[: 5 * 256] + page[6 * 256 :])


def test_a_full_slot_is_not_overwritten_but_marked() -> None:
    """The second message waits, and the slot says so without changing its message."""
    page = bytearray(PAGE)
    host = MessagePage(page)
    host.post(SINT, rescind(1))

    assert host.post(SINT, rescind(2)) is Post.QUEUED

    assert slot(page).payload == rescind(1).payload
    assert slot(page).pending
    assert host.queued(SINT) == 1


def test_messages_come_in_order_with_one_eom_each() -> None:
    """EOM is asked for exactly while another message waits."""
    page = bytearray(PAGE)
    host, guest = MessagePage(page), MessageReader(page)
    posted = [host.post(SINT, rescind(relid)) for relid in range(1, 5)]

    eoms = []
    while guest_eom := guest.interrupt():
        eoms.append(guest_eom)
        assert host.eom() == [SINT]

    assert posted == [Post.RAISE, Post.QUEUED, Post.QUEUED, Post.QUEUED]
    assert relids(guest.messages()) == [1, 2, 3, 4]
    assert len(eoms) == 3
    assert page[512:516] == FREE


def test_a_new_message_queues_behind_older_ones_even_if_the_slot_is_free() -> None:
    """Between the guest's freeing the slot and its EOM nothing overtakes."""
    page = bytearray(PAGE)
    host, guest = MessagePage(page), MessageReader(page)
    host.post(SINT, rescind(1))
    host.post(SINT, rescind(2))
    assert guest.interrupt()

    assert host.post(SINT, rescind(3)) is Post.RAISE

    assert slot(page).payload == rescind(2).payload
    assert host.eom() == []
    assert guest.interrupt()
    assert host.eom() == [SINT]
    assert not guest.interrupt()
    assert relids(guest.messages()) == [1, 2, 3]


def test_a_slot_freed_before_the_mark_is_filled_at_once() -> None:
    """A guest that could not see "more waits" will not say EOM, so the host looks again after marking."""
    page = bytearray(PAGE)
    host, guest = MessagePage(page), MessageReader(page)
    host.post(SINT, rescind(1))
    words = host._words

    class Late:
        """The guest frees the slot between the host's first look and its mark."""

        def load(self, index: int) -> int:
            value = words.load(index)
            if value & 0xFFFFFFFF:
                assert not guest.interrupt()
            return value

        def __getattr__(self, name: str) -> object:
            return getattr(words, name)

    host._words = Late()  # type: ignore[assignment]

    assert host.post(SINT, rescind(2)) is Post.RAISE

    assert slot(page) == rescind(2)


def test_eom_looks_at_every_queue_of_the_vp() -> None:
    """It names no SINT; without anything waiting it does nothing."""
    page = bytearray(PAGE)
    host = MessagePage(page)
    guests = {sint: MessageReader(page, sint) for sint in (2, 5)}
    for sint in guests:
        host.post(sint, rescind(1))
        host.post(sint, rescind(2))
    for guest in guests.values():
        guest.interrupt()

    assert host.eom() == [2, 5]
    assert host.eom() == []


def test_eom_may_come_from_any_vp() -> None:
    """A backend that cannot tell whose EOM it was has all pages looked at."""
    pages = [bytearray(PAGE) for _ in range(3)]
    host = Synic(pages)
    guest = MessageReader(pages[2])
    host.post(2, SINT, rescind(1))
    host.post(2, SINT, rescind(2))
    guest.interrupt()

    assert host.eom(0) == []
    assert host.eom() == [(2, SINT)]
    with pytest.raises(UsageError, match="VP 3"):
        host.post(3, SINT, rescind(1))


def test_a_masked_sint_refuses_and_a_long_queue_asks_to_try_again() -> None:
    """Neither drops a message that was taken before."""
    host = MessagePage(bytearray(PAGE))
    host.mask(SINT, True)
    assert host.post(SINT, rescind(1)) is Post.INVALID_STATE
    host.mask(SINT, False)
    assert host.post(SINT, rescind(1)) is Post.RAISE
    for _ in range(MAX_QUEUED):
        assert host.post(SINT, rescind(2)) is Post.QUEUED

    assert host.post(SINT, rescind(3)) is Post.NO_BUFFERS

    assert host.queued(SINT) == MAX_QUEUED
    host.clear()
    assert host.queued(SINT) == 0


def test_a_message_no_slot_can_hold_is_the_callers_mistake() -> None:
    """Type 0 means free, and 240 bytes are all there is room for."""
    host = MessagePage(bytearray(PAGE))
    for sint, message in ((2, SlotMessage(0, b"")), (2, SlotMessage(1, bytes(241))), (16, rescind(1))):
        with pytest.raises(UsageError):
            host.post(sint, message)
    assert host.queued(SINT) == 0


@pytest.mark.parametrize(
    "bad",
    [
        (wire.MESSAGES[-1].number + 1).to_bytes(4, "little").ljust(12, b"\0"),
        wire.encode(messages.Rescind(1))[:11],
        b"\1",
    ],
    ids=["type above the known range", "below the message's minimum", "no header"],
)
def test_a_bad_message_is_dropped_and_the_next_delivered(bad: bytes) -> None:
    """The slot is released all the same (case 240)."""
    page = bytearray(PAGE)
    host, guest = MessagePage(page), MessageReader(page)
    host.post(SINT, SlotMessage(1, bad))
    host.post(SINT, rescind(9))

    assert guest.interrupt()
    host.eom()
    assert not guest.interrupt()

    assert relids(guest.messages()) == [9]
    assert guest.dropped == 1


def test_a_payload_size_above_240_is_dropped_and_the_slot_released() -> None:
    """What the size byte says is not believed (case 240)."""
    page = bytearray(PAGE)
    host, guest = MessagePage(page), MessageReader(page)
    host.post(SINT, rescind(1))
    page[512 + 4] = 255
    host.post(SINT, rescind(2))

    assert guest.interrupt()
    assert host.eom() == [SINT]
    guest.interrupt()

    assert relids(guest.messages()) == [2]
    assert guest.dropped == 1


def test_a_guest_works_on_its_private_copy() -> None:
    """A peer that changes the slot after delivery changes nothing any more (case 241)."""
    page = bytearray(PAGE)
    host, guest = MessagePage(page), MessageReader(page)
    host.post(SINT, rescind(1))
    guest.interrupt()

    page[512:768] = b"\xff" * 256

    assert relids(guest.messages()) == [1]


def test_a_disconnected_guest_drops_what_it_has_taken() -> None:
    """Messages that wait to be handled when the connection ends are not handled (case 242)."""
    page = bytearray(PAGE)
    host, guest = MessagePage(page), MessageReader(page)
    host.post(SINT, rescind(1))
    guest.interrupt()

    guest.connected = False

    assert guest.messages() == []
    assert guest.dropped == 1
    guest.connected = True
    assert guest.messages() == []


def test_an_empty_slot_asks_for_no_eom() -> None:
    """Nothing to do, also when a stray "more waits" stands beside it."""
    page = bytearray(PAGE)
    page[512 + 5] = 1

    assert not MessageReader(page).interrupt()


def test_two_threads_exchange_every_message_in_order() -> None:
    """The host posts while the guest takes: none is lost, and the guest is never left waiting."""
    page = bytearray(PAGE)
    host, guest = MessagePage(page), MessageReader(page)
    lock, raised, count = threading.Lock(), threading.Semaphore(0), 2000
    order = random.Random(1)

    def post_all() -> None:
        for relid in range(1, count + 1):
            with lock:
                if host.post(SINT, rescind(relid)) is Post.RAISE:
                    raised.release()
            if order.random() < 0.1:
                threading.Event().wait(0.0001)

    sender = threading.Thread(target=post_all)
    sender.start()
    seen: list[int] = []
    while len(seen) < count:
        assert raised.acquire(timeout=20), f"no interrupt after {len(seen)} messages"
        if guest.interrupt():
            with lock:
                for _ in host.eom():
                    raised.release()
        seen += relids(guest.messages())
    sender.join()

    assert seen == list(range(1, count + 1))
