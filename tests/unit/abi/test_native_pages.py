"""Pages in guest memory: the legacy interrupt page and the monitor page, and signals that go through them."""

import mmap
import select

import pytest

from tests.unit.abi.world import World, semaphore_mapping
from vmbusd.abi import layout, native
from vmbusd.abi.errors import UsageError

RAM_PAGES = 8
GPA = 3 * layout.PAGE


class Legacy(World):
    """A partition whose guest speaks 1.1 and named page 3 of its memory."""

    def __init__(self) -> None:
        self.ram = mmap.mmap(-1, RAM_PAGES * layout.PAGE)
        super().__init__(vps=2)
        self.writer.set_pages(GPA, 0)
        self.page = native.InterruptPage(self.ram, GPA)

    def new_sender(self) -> native.Sender:
        return native.Sender(self.table, self.events, self.vpwork, self.bells, self.ram)


@pytest.fixture
def legacy() -> Legacy:
    return Legacy()


def asleep(world: World, vp: int, number: int = 1) -> None:
    native.Words(world.vpwork, layout.VPWORK_SIZE * vp, 1).store(0, number)


def test_a_signal_sets_the_bit_in_the_page_and_flag_0(legacy: Legacy) -> None:
    """Bit relid of the first 2048 bytes, event flag 0 of VP 0, and VP 0 is woken (case 234)."""
    route = legacy.open(9)
    asleep(legacy, 0)

    assert route.signal() is True
    assert legacy.ram[GPA + 1] == 1 << 1
    assert legacy.events[layout.FLAGS_OFFSET] == 1
    assert legacy.pages[0].pending() == [0]
    assert legacy.bells[0].drain() == 1
    assert route.signal() is False
    assert legacy.page.take_for_guest() == [9]
    assert legacy.page.take_for_guest() == []
    assert route.signal() is True


@pytest.mark.parametrize("relid", [1, 63, 64, 2047])
def test_every_relid_has_its_bit(legacy: Legacy, relid: int) -> None:
    """In the half that the host writes and in the one that the guest writes (cases 220, 234)."""
    assert legacy.open(relid).signal()
    assert legacy.page.signal_host(relid) is True
    assert legacy.page.signal_host(relid) is False

    assert legacy.ram[GPA + relid // 8] == 1 << relid % 8
    assert legacy.ram[GPA + 2048 + relid // 8] == 1 << relid % 8
    assert legacy.page.take_for_guest() == [relid]
    assert legacy.page.deliver(legacy.writer, {}) == ([relid], 0)
    assert legacy.page.deliver(legacy.writer, {}) == ([], 0)


def test_signal_many_goes_the_same_way(legacy: Legacy) -> None:
    """All bits, one flag, and the count of those that were not set (case 234)."""
    routes = [legacy.open(relid) for relid in (1, 2, 700)]
    routes[1].signal()

    assert legacy.sender.signal_many(routes) == 2
    assert legacy.page.take_for_guest() == [1, 2, 700]
    assert legacy.pages[0].pending() == [0]


def test_the_flag_follows_the_target(legacy: Legacy) -> None:
    """When VP 0 is offline its stand-in is told to look; the page is the same."""
    route = legacy.open(5)
    legacy.writer.set_target(5, 1)
    route.signal()

    assert (legacy.pages[0].pending(), legacy.pages[1].pending()) == ([], [0])
    assert legacy.page.take_for_guest() == [5]
    assert legacy.writer.target(5) == 1
    assert legacy.writer.record(5)["target_vp"] == 1
    assert legacy.writer.targets(1) == [5]


def test_a_channel_without_interrupts_stays_silent(legacy: Legacy) -> None:
    """0xffffffff is no VP behind a page either (case 064)."""
    route = legacy.open(5)
    legacy.writer.set_target(5, layout.NO_TARGET)

    assert route.signal() is False
    assert legacy.sender.signal_many([route]) == 0
    assert legacy.page.take_for_guest() == []


def test_after_the_connection_nothing_is_touched(legacy: Legacy) -> None:
    """The page is let go first: a late signal then finds none (case 157)."""
    route = legacy.open(5)
    legacy.writer.set_pages(0, 0)

    assert route.signal() is False
    assert legacy.sender.signal_many([route]) == 0
    assert bytes(legacy.ram) == bytes(len(legacy.ram))


@pytest.mark.parametrize("gpa", [GPA + 8, RAM_PAGES * layout.PAGE, 1 << 63])
def test_a_page_outside_the_memory_is_never_written(legacy: Legacy, gpa: int) -> None:
    """Neither by a sender that was bound before, nor by one that would be bound now."""
    route = legacy.open(5)
    legacy.writer.set_pages(gpa, 0)

    assert route.signal() is False
    with pytest.raises(UsageError, match="relid 6: its guest is signalled through the page"):
        native.Route().bind(legacy.sender, 6, 6)


def test_a_sender_without_memory_is_refused_when_it_is_bound(legacy: Legacy) -> None:
    """Not a signal that nobody hears, later."""
    blind = native.Sender(legacy.table, legacy.events, legacy.vpwork, legacy.bells)

    with pytest.raises(UsageError, match="of its memory, which this sender has not got"):
        legacy.route(5, blind)


def test_delivery_wakes_the_host_of_each_open_channel(legacy: Legacy) -> None:
    """Bits of closed and unknown channels are taken and counted; a host not there is named (case 235)."""
    legacy.open(5)
    legacy.open(9)
    legacy.writer.close(9)
    for relid in (5, 9, 700):
        legacy.page.signal_host(relid)
    host = Host()
    host.sleep(1)

    assert legacy.page.deliver(legacy.writer, {3: host.sender}) == ([], 2)
    assert host.flags.take() == [5]
    assert host.bell.drain() == 1
    legacy.page.signal_host(5)
    assert legacy.page.deliver(legacy.writer, {4: host.sender}) == ([5], 0)
    assert host.flags.take() == []


def test_a_newer_guest_has_no_flag_0(world: World) -> None:
    """Without a page in use the bit is the channel's own, as ever (case 221)."""
    world.open(5).signal()

    assert world.pages[0].pending() == [5]


# -- monitor page --------------------------------------------------------------------------------------------


class Host:
    """One host's page and doorbell."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, layout.PAGE)
        self.bell = native.Doorbell.semaphore(semaphore_mapping())
        self.sender = native.HostSender(self.memory, self.bell)
        self.flags = native.EventFlags(self.memory)

    def sleep(self, number: int) -> None:
        native.Words(self.memory, layout.HOST_IDLE_OFFSET, 1).store(0, number)


def pending(page: mmap.mmap, group: int) -> int:
    return int.from_bytes(page[8 + 8 * group : 12 + 8 * group], "little")


@pytest.mark.parametrize("number", [0, 31, 32, 127])
def test_a_trigger_is_a_bit_of_its_group(world: World, number: int) -> None:
    """Group id / 32, bit id mod 32 of `pending`, in the page that the table names (case 303)."""
    ram = mmap.mmap(-1, RAM_PAGES * layout.PAGE)
    trigger = native.MonitorTrigger(world.table, ram)
    assert trigger.trigger(number) is None
    world.writer.set_pages(0, GPA)

    assert trigger.trigger(number) is True
    assert trigger.trigger(number) is False
    offset = GPA + 8 + 8 * (number // 32) + number % 32 // 8
    assert ram[offset] == 1 << number % 8
    ram[offset] = 0
    assert bytes(ram) == bytes(len(ram))
    for wrong in (128, -1):
        with pytest.raises(UsageError, match="monitor id"):
            trigger.trigger(wrong)


def test_a_scan_signals_what_is_armed() -> None:
    """Each set bit once, to the flag and host of its id; bits of unknown ids are taken and ignored."""
    page = mmap.mmap(-1, layout.PAGE)
    hosts = [Host(), Host()]
    scanner = native.MonitorScanner(page, 1000)
    scanner.arm(0, hosts[0].sender, 7)
    scanner.arm(127, hosts[1].sender, 2047)
    for group in range(4):
        page[8 + 8 * group : 12 + 8 * group] = b"\xff\xff\xff\xff"
    hosts[0].sleep(1)

    assert scanner.scan() == 2
    assert (hosts[0].flags.take(), hosts[1].flags.take()) == ([7], [2047])
    assert (hosts[0].bell.drain(), hosts[1].bell.drain()) == (1, 0)
    assert [pending(page, group) for group in range(4)] == [0, 0, 0, 0]
    assert scanner.scan() == 0
    scanner.disarm(0)
    page[8] = 1
    assert scanner.scan() == 0
    assert hosts[0].flags.take() == []
    assert (scanner.scans, scanner.signals) == (3, 2)


def test_the_shortest_latency_of_those_armed_counts() -> None:
    """u16 at 576 + 2 * id, in units of 100 ns; 0 leaves it to the host."""
    page = mmap.mmap(-1, layout.PAGE)
    host = Host()
    scanner = native.MonitorScanner(page, 1000)
    assert scanner.latency() == 0
    scanner.arm(5, host.sender, 1)
    assert scanner.latency() == 1000
    page[576 + 2 * 5 : 578 + 2 * 5] = (4000).to_bytes(2, "little")
    page[576 + 2 * 6 : 578 + 2 * 6] = (10).to_bytes(2, "little")
    assert scanner.latency() == 4000
    scanner.arm(6, host.sender, 2)
    assert scanner.latency() == 10
    scanner.disarm(6)
    scanner.disarm(5)
    assert scanner.latency() == 0


def test_a_ticker_ticks_until_it_is_told_not_to() -> None:
    """Readable once per period; closing twice is fine."""
    ticker = native.Ticker()
    try:
        assert ticker.take() == 0
        ticker.every(100_000)
        assert select.select([ticker], [], [], 20)[0]
        assert ticker.take() >= 1
        ticker.every(0)
        assert ticker.take() == 0
        assert select.select([ticker], [], [], 0)[0] == []
    finally:
        ticker.close()
        ticker.close()


@pytest.mark.parametrize("make", [native.InterruptPage, lambda b: native.MonitorScanner(b, 1)])
def test_half_a_page_is_none(make: type[native.InterruptPage]) -> None:
    """A buffer that is too small is refused when it is given."""
    with pytest.raises(UsageError, match="at least 0 \\+ 4096 are needed"):
        make(mmap.mmap(-1, 2048))
