"""A full /dev/shm is an error that names the object, at every place where memory is promised."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import posix_ipc  # type: ignore[import-not-found, unused-ignore]
import pytest

from tests.live.peers import CONTACT, device, guest, refused
from tests.unit.server.in_process import in_process
from vmbusd.abi import device_link, gpadl, messages
from vmbusd.abi.attach import attach
from vmbusd.abi.errors import ResourceError
from vmbusd.abi.link import Code, Role
from vmbusd.server import objects
from vmbusd.server.config import PartitionSpec
from vmbusd.server.objects import ObjectSet

SPEC = PartitionSpec(vps=2, ram_size=1 << 20)
INSTANCE = "0123456789ab"


class Full:
    """Says ENOSPC for the objects whose name ends like this, while it is on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ending = ""
        monkeypatch.setattr(objects, "_allocate", self._wrap(os.posix_fallocate))
        monkeypatch.setattr(objects, "_truncate", self._wrap(os.ftruncate))
        semaphore = posix_ipc.Semaphore

        def make(name: str, flags: int = 0, **more: int) -> posix_ipc.Semaphore:
            if flags and self.ending and name.endswith(self.ending):
                raise OSError(errno.ENOSPC, "No space left on device")
            return semaphore(name, flags, **more)

        monkeypatch.setattr(posix_ipc, "Semaphore", make)

    def _wrap(self, call: Callable[..., None]) -> Callable[..., None]:
        def wrapped(fd: int, *numbers: int) -> None:
            if self.ending and os.readlink(f"/proc/self/fd/{fd}").endswith(self.ending):
                raise OSError(errno.ENOSPC, "No space left on device")
            call(fd, *numbers)

        return wrapped


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Full:
    """A machine that can run out of memory."""
    return Full(monkeypatch)


@pytest.mark.parametrize("what", ["table", "events", "vpwork", "guest", "ram", "vp0", "vp1"])
def test_a_set_is_made_whole_or_not_at_all(full: Full, what: str) -> None:
    """Whichever object has no room is named, and nothing that was made before stays."""
    full.ending = f"-{what}"

    with pytest.raises(ResourceError, match=f"-a-{what}: no space left in /dev/shm"):
        ObjectSet(INSTANCE, "a", vps=2, ram_size=1 << 20, eventfd=False)

    assert [name for name in os.listdir("/dev/shm") if INSTANCE in name] == []


def test_a_partition_without_room_leaves_the_others_alone(full: Full, runtime_dir: Path) -> None:
    """The administrator hears which object it was; the partition that is there goes on."""
    with in_process(runtime_dir, a=SPEC) as running:
        full.ending = "-b-ram"
        with pytest.raises(ResourceError, match="-b-ram: no space left"):
            running.call(lambda: running.daemon.add_partition("b", SPEC))
        assert list(running.daemon.partitions) == ["a"]
        with guest(runtime_dir) as control:
            control.connect()


def test_a_host_without_room_is_refused(full: Full, runtime_dir: Path) -> None:
    """Its page cannot be made: refused with the name, and later there is room."""
    with in_process(runtime_dir, a=SPEC):
        full.ending = "-host0"
        text = refused(Code.LIMIT, lambda: attach(Role.HOST, "a", runtime_dir=runtime_dir))
        assert text.endswith("-a-host0: no space left in /dev/shm for 4096 bytes")
        full.ending = ""
        with device(runtime_dir) as host:
            assert host.attached.welcome.link == 0


def test_a_gpadl_without_room_is_refused_to_the_guest(full: Full, runtime_dir: Path) -> None:
    """The host never hears of pages that are not there; with room the same GPADL is accepted."""
    with in_process(runtime_dir, a=SPEC), guest(runtime_dir) as control, device(runtime_dir) as host:
        host.offer()
        (offer,) = control.connect(1)
        (part,) = gpadl.split(offer.child_relid, 7, [gpadl.whole_pages(range(16, 20))])
        full.ending = "-ram"
        control.say(part)
        assert control.hear(messages.GpadlCreated).creation_status == messages.UNSUCCESSFUL

        full.ending = ""
        control.say(part)
        assert host.hear(device_link.Gpadl).gpadl == 7


def test_an_offer_without_room_is_revoked(full: Full, runtime_dir: Path) -> None:
    """A guest that is there sees it come and go at once, the host hears Revoked; with room all is well."""
    with in_process(runtime_dir, a=SPEC), guest(runtime_dir) as control, device(runtime_dir) as host:
        control.connect()
        full.ending = "-guest"
        host.offer(1)

        assert host.hear(device_link.Revoked).offer_id == 1
        relid = control.hear(messages.Offer).child_relid
        assert control.hear(messages.Rescind).child_relid == relid
        control.say(messages.RelidReleased(relid))
        full.ending = ""
        host.offer(2)
        assert control.hear(messages.Offer).child_relid


def test_an_old_offer_without_room_is_revoked(full: Full, runtime_dir: Path) -> None:
    """No room is found only when a guest asks for the offers: the host learns that its offer is gone."""
    with in_process(runtime_dir, a=SPEC), guest(runtime_dir) as control, device(runtime_dir) as host:
        host.offer()
        full.ending = "-guest"
        control.say(CONTACT)
        control.hear(messages.VersionResponse)
        control.say(messages.RequestOffers())

        assert host.hear(device_link.Revoked).offer_id == 1
        full.ending = ""
        host.offer(2)
