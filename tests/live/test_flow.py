"""Flow control: whoever floods, or does not read, waits itself; nobody else notices, and nothing grows."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.live.daemon import Daemon, daemon, eventually, seqpacket
from tests.live.peers import CONTACT, Device, device, guest, open_channel, receive
from vmbusd.abi import device_link, layout, link, messages, paths, wire
from vmbusd.abi.attach import Attached, attach
from vmbusd.abi.link import Role
from vmbusd.abi.link_socket import close_all
from vmbusd.abi.session import WINDOW
from vmbusd.server import limits, requests

pytestmark = pytest.mark.live

OFFERS = 1500


@pytest.fixture
def running(runtime_dir: Path) -> Iterator[Daemon]:
    """A daemon with partitions a and b."""
    with daemon(runtime_dir, "--partition", "a", "--partition", "b") as running:
        yield running


class Flood:
    """Sends channel messages as fast as the daemon takes them, and reads none of the answers."""

    def __init__(self, attached: Attached, message: bytes, *, numbered: bool = False) -> None:
        self.sent = 0
        self._attached = attached
        self._message = message
        self._numbered = numbered
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Flood":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        self._attached.sock.settimeout(0.05)
        while not self._stop.is_set():
            number = self.sent + 1 if self._numbered else 0
            packet = link.encode_message(self._message, where=1, sequence=number)
            with contextlib.suppress(TimeoutError, BlockingIOError):
                self._attached.sock.send(packet)
                self.sent += 1


def offer_many(host: Device, count: int) -> None:
    """Offer that many channels."""
    for number in range(1, count + 1):
        host.say(device_link.Offer(number, UUID(int=9), UUID(int=number)))
        assert host.hear(device_link.OfferResult).status == 0


def resident(pid: int) -> int:
    """Memory of a process in KiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0])


def test_a_guest_that_floods_and_never_reads_waits_itself(running: Daemon) -> None:
    """Offers are asked for again and again: output stops at its mark, a polite guest is served meanwhile, and
    the flooder goes on when it reads (case 311).
    """
    ask = [wire.encode(CONTACT), wire.encode(messages.RequestOffers()), wire.encode(messages.Unload())]
    with device(running.runtime_dir) as host, guest(running.runtime_dir) as control:
        offer_many(host, OFFERS)
        control.attached.sock.settimeout(0.05)
        sent = 0
        with contextlib.suppress(TimeoutError, BlockingIOError):
            while True:
                control.attached.sock.send(link.encode_message(ask[sent % 3], where=1))
                sent += 1
        view = running.status("a")
        assert view["counters"]["guest output full"] >= 1
        assert view["guest"]["linked"]

        with device(running.runtime_dir, "b") as other, guest(running.runtime_dir, "b") as polite:
            other.offer()
            open_channel(polite, other)

        control.attached.sock.setblocking(False)
        unloads = 0
        while unloads < sent // 3:
            heard = control.hear_any()
            unloads += isinstance(heard, messages.UnloadResponse)
        assert running.status("a")["guest"]["refused"] == {}


def test_what_a_flood_leaves_behind_is_bounded(running: Daemon) -> None:
    """A million bytes of questions later the daemon has not grown by what the answers would have taken."""
    with device(running.runtime_dir) as host, guest(running.runtime_dir) as control:
        offer_many(host, 200)
        control.connect(200)
        before = resident(running.pid)
        with Flood(control.attached, wire.encode(messages.RequestOffers())) as flood:
            eventually(lambda: flood.sent > 20000, "the flood flows")
            assert resident(running.pid) - before < limits.MAX_QUEUE_BYTES >> 10


def test_a_resumable_guest_that_is_held_back_is_still_heard(running: Daemon) -> None:
    """Its messages wait unconfirmed, a window at most, while its confirmations let the output flow."""
    with device(running.runtime_dir) as host:
        offer_many(host, OFFERS)
        with attach(Role.GUEST_CONTROL, "a", runtime_dir=running.runtime_dir, resumable=True) as attached:
            ask = [
                wire.encode(CONTACT),
                wire.encode(messages.RequestOffers()),
                wire.encode(messages.Unload()),
            ]
            numbers, taken, offers, confirmed = 0, 0, 0, 0
            while offers < 5 * OFFERS:
                while numbers < confirmed + WINDOW:
                    numbers += 1
                    attached.send(link.encode_message(ask[(numbers - 1) % 3], where=1, sequence=numbers))
                packet, fds = receive(attached)
                close_all(fds)
                header = link.decode_header(packet)
                if header.kind == link.Kind.CONFIRM:
                    body = link.decode_body(header, packet)
                    assert isinstance(body, link.Confirm)
                    confirmed = body.received
                elif header.kind == link.Kind.MESSAGE:
                    taken += 1
                    assert header.sequence == taken
                    if not taken % 32:
                        attached.send(link.encode(link.Confirm(taken)))
                    message = wire.decode(packet[link.HEADER.size :], wire.V5_3, sender=wire.Sender.HOST)
                    offers += isinstance(message, messages.Offer)
            view = running.status("a")
            assert view["guest"]["refused"] == {}
            assert view["counters"]["guest output full"] >= 1
            attached.send(link.encode(link.Detached(0)))


def test_a_polite_guest_beside_a_flood_loses_nothing(running: Daemon) -> None:
    """One partition is flooded without a pause; every answer of the other comes, in order."""
    with (
        guest(running.runtime_dir) as noisy,
        guest(running.runtime_dir, "b") as polite,
        device(running.runtime_dir, "b") as host,
        Flood(noisy.attached, b"\xff" * 240) as flood,
    ):
        host.offer()
        offer = open_channel(polite, host)
        before = flood.sent
        for vp in range(200):
            polite.say(messages.ModifyChannel(offer.child_relid, vp % 4))
            asked = host.hear(device_link.Retarget)
            host.say(device_link.Retargeted(asked.offer_id, asked.generation, asked.vp, 0))
            assert polite.hear(messages.ModifyChannelResponse).status == 0
        eventually(lambda: flood.sent > before + 1000, "the flood goes on")
        eventually(lambda: running.status("a")["counters"]["refused"] > 1000, "each of it is refused")


def test_a_thousand_links_at_once(runtime_dir: Path) -> None:
    """A thousand connections at the same time are all answered: guests and hosts welcomed, the rest refused
    with a reason, and the daemon serves on.
    """
    names = [f"p{number}" for number in range(16)]
    arguments = [word for name in names for word in ("--partition", f"{name}:1")]
    with daemon(runtime_dir, *arguments) as running:
        links = []
        try:
            for number in range(1000):
                is_host = number >= 40
                sock = seqpacket(runtime_dir / (paths.HOST_SOCKET if is_host else paths.GUEST_SOCKET))
                links.append(sock)
                role = Role.HOST if is_host else Role.GUEST_CONTROL
                hello = link.Hello(layout.ABI_VERSION, role, 0, 0, names[number % 16])
                sock.send(link.encode(hello))
            kinds = [answer_kind(sock) for sock in links]
            assert kinds[:16] == [link.Kind.WELCOME] * 16
            assert kinds[16:40] == [link.Kind.REFUSED] * 24
            assert set(kinds[40:]) == {link.Kind.WELCOME}
            assert running.ask(requests.Status())["daemon"]["links"] == 976
        finally:
            for sock in links:
                sock.close()
        eventually(lambda: running.ask(requests.Status())["daemon"]["links"] == 0, "all links are gone")


def answer_kind(sock: socket.socket) -> int:
    """The kind of the first packet; its descriptors are closed."""
    packet, fds, _, _ = socket.recv_fds(sock, link.MAX_GUEST_PACKET, link.MAX_DESCRIPTORS)
    close_all(fds)
    return link.decode_header(packet).kind
