"""Shared objects that are truncated, renamed or removed behind the daemon's back, each in turn."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.daemon import Daemon, daemon, eventually
from tests.live.peers import device, farewell, guest, open_channel, refused, worker
from vmbusd.abi import messages
from vmbusd.abi.attach import attach
from vmbusd.abi.errors import LinkClosed, RefusedError
from vmbusd.abi.link import Code, Role
from vmbusd.server import requests

pytestmark = pytest.mark.live

SHM = Path("/dev/shm")
OBJECTS = ["table", "events", "vpwork", "guest", "ram", "host0", "sem vp0", "sem vp3", "sem host0"]


@pytest.fixture
def running(runtime_dir: Path) -> Iterator[Daemon]:
    """A daemon with partitions a and b."""
    with daemon(runtime_dir, "--partition", "a", "--partition", "b") as running:
        yield running


def path_of(running: Daemon, what: str) -> Path:
    """The file of an object of partition a."""
    instance = next(name for name in running.objects() if name.endswith("-a-table")).split("-")[1]
    kind, _, index = what.rpartition(" ")
    return SHM / f"{'sem.' if kind else ''}vmbusd-{instance}-a-{index}"


@pytest.mark.parametrize("what", OBJECTS)
def test_a_truncated_object_ends_its_partition_and_nothing_else(running: Daemon, what: str) -> None:
    """Every link of the partition hears which object it was; the other partition does not notice."""
    directory = running.runtime_dir
    with (
        guest(directory, "b") as other,
        device(directory, "b") as other_host,
        guest(directory) as control,
        device(directory) as host,
        worker(directory) as vp,
    ):
        other_host.offer()
        host.offer()
        open_channel(control, host)
        path = path_of(running, what)

        os.truncate(path, 0)

        reason = f"partition a is dead: {path} was truncated"
        for attached in (control.attached, host.attached, vp):
            assert farewell(attached) == reason
        view = running.status("a")
        assert (view["state"], view["reason"]) == ("dead", f"{path} was truncated")
        text = refused(Code.PARTITION_DEAD, lambda: attach(Role.HOST, "a", runtime_dir=directory))
        assert text == reason
        open_channel(other, other_host)
        assert running.status("b")["state"] == "running"
        running.ask(requests.PartitionRemove("a"))
        running.ask(requests.PartitionAdd("a"))
    with guest(directory) as control:
        control.connect()
    assert "internal error" not in running.text()


@pytest.mark.parametrize("what", ["events", "vpwork", "guest", "table"])
def test_a_fault_of_the_daemon_itself_ends_the_partition_only(running: Daemon, what: str) -> None:
    """The daemon touches the truncated object before it looks: the guard holds, the reason is the same."""
    directory = running.runtime_dir
    with guest(directory) as control, device(directory) as host, worker(directory, vp=1) as vp:
        host.offer()
        offer = open_channel(control, host, vp=1)
        path = path_of(running, what)
        os.truncate(path, 0)
        # Close: slot and claim. Status: pages and counters. A look that comes before ends the link.
        with contextlib.suppress(LinkClosed):
            control.say(messages.Close(offer.child_relid))
        running.status("a")

        assert farewell(vp) == f"partition a is dead: {path} was truncated"
    with guest(directory, "b") as other:
        other.connect()


@pytest.mark.parametrize("what", OBJECTS)
def test_a_removed_name_is_a_warning_and_all_goes_on(running: Daemon, what: str) -> None:
    """Links that have the object go on, new ones are handed it too, and the stop is orderly."""
    directory = running.runtime_dir
    with guest(directory) as control, device(directory) as host:
        host.offer()
        path = path_of(running, what)

        path.unlink()

        (warning,) = eventually(lambda: running.status("a")["warnings"], "the daemon notices")
        assert warning == f"{path} was removed or renamed; those who have it go on"
        with worker(directory, vp=3):
            open_channel(control, host, vp=3)
        assert running.status("a")["state"] == "running"


def test_a_renamed_object_is_a_warning_too(running: Daemon) -> None:
    """Its new name is not ours to remove; a stranger under the old one is left alone as well."""
    path = path_of(running, "ram")
    moved, instead = path.with_name("moved-by-a-test"), path
    path.rename(moved)
    instead.write_bytes(b"somebody else's")
    try:
        eventually(lambda: running.status("a")["warnings"], "the daemon notices")
        running.stop()
        assert instead.read_bytes() == b"somebody else's"
        assert moved.exists()
    finally:
        instead.unlink()
        moved.unlink()


def test_an_object_that_is_there_already_is_named(running: Daemon) -> None:
    """A partition whose object cannot be made exclusively is refused; nothing of it stays."""
    instance = (running.runtime_dir / "instance").read_text().strip()
    squatter = SHM / f"vmbusd-{instance}-c-vpwork"
    squatter.touch()
    try:
        text = add_error(running, "c")
        assert f"{squatter}: exists already and belongs to uid {os.getuid()}" in text
        assert [name for name in running.objects() if "-c-" in name] == [squatter.name]
        assert running.status("a")["state"] == "running"
    finally:
        squatter.unlink()


@pytest.mark.root
def test_a_name_held_by_another_user_is_named_with_its_owner(running: Daemon) -> None:
    """The error names the path and who has it (needs two users; otherwise our own stands in)."""
    instance = (running.runtime_dir / "instance").read_text().strip()
    squatter = SHM / f"vmbusd-{instance}-c-table"
    squatter.touch()
    try:
        owner = 65534 if os.geteuid() == 0 else os.getuid()
        os.chown(squatter, owner, -1)
        assert f"{squatter}: exists already and belongs to uid {owner}" in add_error(running, "c")
    finally:
        squatter.unlink()


def add_error(running: Daemon, name: str) -> str:
    """Why a partition cannot be added."""
    try:
        running.ask(requests.PartitionAdd(name))
    except RefusedError as error:
        return str(error)
    return ""
