"""Peers made by hand for live tests: they speak the link protocols packet by packet, right or wrong."""

import contextlib
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import msgspec
import pytest

from tests.live.daemon import PATIENCE
from vmbusd.abi import device_link, gpadl, link, messages, wire
from vmbusd.abi.attach import Attached, attach
from vmbusd.abi.errors import LinkClosed, RefusedError
from vmbusd.abi.link import Code, Role
from vmbusd.abi.link_socket import close_all

CONTACT = messages.InitiateContact(wire.V5_3, 0, 2, 0, 0, 0, 0)
INTERFACE = UUID(int=1)
M = TypeVar("M", bound=msgspec.Struct)


class Guest:
    """A control link and the channel messages on it."""

    def __init__(self, attached: Attached) -> None:
        self.attached = attached

    def say(self, message: msgspec.Struct) -> None:
        """Post a channel message."""
        self.say_bytes(wire.encode(message))

    def say_bytes(self, data: bytes) -> None:
        """Post any bytes."""
        self.attached.send(link.encode_message(data, where=link.MESSAGE_CONNECTION_OLD))

    def hear(self, kind: type[M]) -> M:
        """The next channel message, which must be of this kind."""
        heard = self.hear_any()
        assert isinstance(heard, kind), heard
        return heard

    def hear_any(self) -> msgspec.Struct:
        """The next channel message; host links are mapped on the way."""
        while True:
            packet, fds = receive(self.attached)
            header = link.decode_header(packet)
            if header.kind == link.Kind.HOST_LINK:
                self.attached.add_host_link(packet, fds)
                continue
            assert header.kind == link.Kind.MESSAGE
            assert header.sint == 2
            return wire.decode(packet[link.HEADER.size :], wire.V5_3, sender=wire.Sender.HOST)

    def connect(self, channels: int = 0) -> list[messages.Offer]:
        """Contact, then that many offers."""
        self.say(CONTACT)
        assert self.hear(messages.VersionResponse).version_supported
        self.say(messages.RequestOffers())
        offers = [self.hear(messages.Offer) for _ in range(channels)]
        self.hear(messages.AllOffersDelivered)
        return offers


class Device:
    """A host link and the device messages on it."""

    def __init__(self, attached: Attached) -> None:
        self.attached = attached

    def say(self, message: device_link.FromHost) -> None:
        self.attached.send(device_link.encode(message))

    def hear(self, kind: type[M]) -> M:
        """The next device message, which must be of this kind."""
        packet, fds = receive(self.attached)
        assert not fds
        heard = device_link.decode(link.decode_header(packet), packet)
        assert isinstance(heard, kind), heard
        return heard

    def offer(self, offer_id: int = 1) -> None:
        """Offer a channel, and learn that it was accepted."""
        self.say(device_link.Offer(offer_id, INTERFACE, UUID(int=offer_id)))
        result = self.hear(device_link.OfferResult)
        assert result.status == 0, result.text


def receive(attached: Attached) -> tuple[bytes, list[int]]:
    """The next packet; fails after a while."""
    assert attached.wait_readable(PATIENCE), "nothing came"
    got = attached.receive_nowait()
    assert got is not None
    return got


@contextlib.contextmanager
def guest(runtime_dir: Path, partition: str = "a") -> Iterator[Guest]:
    """An attached guest control link."""
    with attach(Role.GUEST_CONTROL, partition, runtime_dir=runtime_dir) as attached:
        yield Guest(attached)


@contextlib.contextmanager
def worker(runtime_dir: Path, partition: str = "a", vp: int = 0) -> Iterator[Attached]:
    """An attached worker link, which leaves in order."""
    with attach(Role.GUEST_WORKER, partition, runtime_dir=runtime_dir, vp=vp) as attached:
        yield attached
        with contextlib.suppress(LinkClosed):
            attached.send(link.encode(link.Detached(vp)))


@contextlib.contextmanager
def device(runtime_dir: Path, partition: str = "a") -> Iterator[Device]:
    """An attached host link, which leaves in order."""
    with attach(Role.HOST, partition, runtime_dir=runtime_dir) as attached:
        yield Device(attached)
        with contextlib.suppress(LinkClosed):
            attached.send(link.encode(link.Detached(attached.welcome.link)))


def open_channel(guest: Guest, device: Device, *, vp: int = 0, first_page: int = 16) -> messages.Offer:
    """Open the one channel that the device has offered already; returns its offer."""
    (offer,) = guest.connect(1)
    relid = offer.child_relid
    for part in gpadl.split(relid, 7, [gpadl.whole_pages(range(first_page, first_page + 4))]):
        guest.say(part)
    asked = device.hear(device_link.Gpadl)
    device.say(device_link.GpadlAccepted(asked.offer_id, asked.gpadl, 0))
    assert guest.hear(messages.GpadlCreated).creation_status == 0
    guest.say(messages.Open(relid, relid, 7, vp, 2, bytes(120)))
    opening = device.hear(device_link.Open)
    device.say(device_link.Opened(opening.offer_id, opening.generation, 0))
    assert guest.hear(messages.OpenResult).status == 0
    return offer


def farewell(attached: Attached) -> str:
    """The reason why the daemon ends this link; other packets before it are passed over."""
    try:
        while True:
            _, fds = receive(attached)
            close_all(fds)
    except LinkClosed as ended:
        return str(ended)


def refused(code: Code, attempt: Callable[[], object]) -> str:
    """The text of the refusal that the attempt meets, which must have this code."""
    with pytest.raises(RefusedError) as error:
        attempt()
    assert error.value.code == code
    return str(error.value)


def header(kind: int, **fields: int) -> bytes:
    """A packet header with any kind."""
    return link.HEADER.encode(link.Header(kind, **fields))


def hello(**changes: object) -> bytes:
    """A hello of a guest control link to partition a, with some fields changed."""
    good = link.Hello(abi_version=1, role=Role.GUEST_CONTROL, vp=0, flags=0, partition="a")
    return link.encode(msgspec.structs.replace(good, **changes))


def words(*values: int) -> bytes:
    """Little-endian u32s."""
    return struct.pack(f"<{len(values)}I", *values)
