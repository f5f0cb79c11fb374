"""GPADLs on the bus: assembly, acceptance, teardown, and the caps."""

import pytest

from tests.unit.bus.script import FAILURE, RAM_PAGES, Script, asked, header, range_words, refusals, sent
from vmbusd.abi import device_link, gpadl, messages
from vmbusd.bus import gpadls
from vmbusd.bus.effects import AskHost
from vmbusd.bus.options import MAX_UNFINISHED_GPADLS

GOOD = range_words(4096, 0, 1)


def created(relid: int, handle: int, status: int = 0) -> list[messages.GpadlCreated]:
    return [messages.GpadlCreated(relid, handle, status)]


def failed(relid: int, handle: int) -> list[messages.GpadlCreated]:
    return created(relid, handle, messages.UNSUCCESSFUL)


@pytest.fixture
def script() -> Script:
    """Two offered channels, relids and offer ids 1 and 2."""
    script = Script()
    script.offer(1)
    script.offer(2)
    script.connect()
    return script


def test_one_page(script: Script) -> None:
    """The device gets the range buffer, and its yes is the guest's (case 081)."""
    assert script.guest(header(1, 9, GOOD)) == [AskHost(0, device_link.Gpadl(1, 9, 1, 0, GOOD), (0,))]

    assert sent(script.accept_gpadl(1, 9)) == created(1, 9)


def test_a_large_one(script: Script) -> None:
    """1024 pages: one question after the last of 36 bodies, one answer (cases 082, 083)."""
    *parts, last = gpadl.split(1, 9, [gpadl.whole_pages(range(1024))])

    assert [script.guest(part) for part in parts] == 36 * [[]]
    (question,) = asked(script.guest(last))
    assert isinstance(question, device_link.Gpadl)
    assert gpadl.decode_ranges(question.ranges, question.range_count) == [gpadl.whole_pages(range(1024))]


def test_the_largest(script: Script) -> None:
    """8191 words are accepted (case 308)."""
    assert len(asked(script.create_gpadl(1, 9, pages=8190))) == 1
    assert sent(script.accept_gpadl(1, 9)) == created(1, 9)


def test_interleaved_bodies(script: Script) -> None:
    """Two GPADLs grow side by side, each with its own pages (case 085)."""
    one = gpadl.split(1, 1, [gpadl.whole_pages(range(60))])
    two = gpadl.split(2, 2, [gpadl.whole_pages(range(500, 560))])

    questions = [
        question
        for pair in zip(one, two, strict=True)
        for part in pair
        for question in asked(script.guest(part))
    ]

    assert [q.ranges for q in questions if isinstance(q, device_link.Gpadl)] == [
        gpadl.encode_ranges([gpadl.whole_pages(range(60))]),
        gpadl.encode_ranges([gpadl.whole_pages(range(500, 560))]),
    ]


@pytest.mark.parametrize("relid", [0, 3, 100, 2047, 2048, 0xFFFFFFFF])
def test_an_unknown_relid(script: Script, relid: int) -> None:
    """The answer is a failure with the numbers given (case 086)."""
    assert sent(script.guest(header(relid, 1, GOOD))) == failed(relid, 1)


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (range_words(4096, 0x1000, 2), 1),
        (range_words(0, 0, 1), 1),
        (range_words(8192, 0, 1), 1),
        (GOOD, 2),
        (GOOD, 0),
        (b"", 1),
        (range_words(0xFFFFFFFF, 0xFFF, 20), 1),
    ],
)
def test_bad_ranges(script: Script, words: bytes, count: int) -> None:
    """They are answered with a failure, and the handle is free again (cases 087-089)."""
    assert sent(script.guest(header(1, 9, words, count=count))) == failed(1, 9)
    assert len(asked(script.guest(header(1, 9, GOOD)))) == 1


def test_a_bad_range_over_two_messages(script: Script) -> None:
    """Silence after the header, failure after the body, then the handle works (case 090)."""
    words = range_words(4096, 0x1000, 30)

    assert script.guest(header(1, 9, words[:216], length=len(words))) == []
    assert sent(script.guest(messages.GpadlBody(0, 9, words[216:]))) == failed(1, 9)
    assert len(asked(script.guest(header(1, 9, GOOD)))) == 1


def test_a_handle_twice_on_one_channel(script: Script) -> None:
    """The second is refused and the accepted one is unharmed (case 091)."""
    script.guest(header(1, 9, GOOD))
    script.accept_gpadl(1, 9)

    assert sent(script.guest(header(1, 9, GOOD))) == failed(1, 9)
    assert asked(script.guest(messages.GpadlTeardown(1, 9))) == [device_link.Teardown(1, 9)]


def test_a_handle_on_two_channels(script: Script) -> None:
    """The key is handle and channel (case 092)."""
    for relid in (1, 2):
        script.guest(header(relid, 10, GOOD))
        assert sent(script.accept_gpadl(relid, 10)) == created(relid, 10)


def test_a_handle_unfinished_on_two_channels(script: Script) -> None:
    """A body names no channel: the second is refused and the first can be finished (case 093)."""
    first, body = gpadl.split(1, 5, [gpadl.whole_pages(range(30))])
    second, _ = gpadl.split(2, 5, [gpadl.whole_pages(range(30))])
    script.guest(first)

    assert sent(script.guest(second)) == failed(2, 5)
    assert sent(script.guest(header(2, 5, b""))) == failed(2, 5)
    assert len(asked(script.guest(body))) == 1


def test_a_body_for_nothing(script: Script) -> None:
    """Without an unfinished GPADL, or after the last word, it is refused without an answer (case 094)."""
    body = messages.GpadlBody(0, 9, bytes(8))

    assert refusals(script.guest(body)) == ["unknown GPADL"]
    script.create_gpadl(1, 9, pages=30)
    assert refusals(script.guest(body)) == ["unknown GPADL"]


def test_the_device_refuses(script: Script) -> None:
    """The guest hears of a failure and the handle is free (case 095)."""
    script.guest(header(1, 9, GOOD))

    assert sent(script.host(device_link.GpadlAccepted(1, 9, FAILURE))) == failed(1, 9)
    assert len(asked(script.guest(header(1, 9, GOOD)))) == 1


def test_teardown(script: Script) -> None:
    """GPADL_TORNDOWN waits for the device (cases 096, 097)."""
    script.guest(header(1, 9, GOOD))
    script.accept_gpadl(1, 9)

    effects = script.guest(messages.GpadlTeardown(1, 9))

    assert effects == [AskHost(0, device_link.Teardown(1, 9))]
    assert sent(script.host(device_link.GpadlTornDown(1, 9))) == [messages.GpadlTorndown(9)]


def test_teardown_of_the_rings(script: Script) -> None:
    """It is held until the channel is closed: device, close and claim, in any order (case 098)."""
    script.opened()
    script.guest(messages.GpadlTeardown(1, 1))
    assert script.host(device_link.GpadlTornDown(1, 1)) == []

    script.guest(messages.Close(1))
    assert script.host(device_link.Closed(1, 1)) == []
    assert sent(script.claim_free()) == [messages.GpadlTorndown(1)]


def test_teardown_of_the_rings_after_a_failed_open(script: Script) -> None:
    """A callback of the failed open may still look at the rings, so it waits for the claim."""
    script.opening()
    script.host(device_link.Opened(1, 1, FAILURE))
    script.guest(messages.GpadlTeardown(1, 1))

    assert script.host(device_link.GpadlTornDown(1, 1)) == []
    assert sent(script.claim_free()) == [messages.GpadlTorndown(1)]


def test_teardown_of_another_gpadl_of_an_open_channel(script: Script) -> None:
    """Only the rings wait for the close."""
    script.opened()
    script.guest(header(1, 9, GOOD))
    script.accept_gpadl(1, 9)
    script.guest(messages.GpadlTeardown(1, 9))

    assert sent(script.host(device_link.GpadlTornDown(1, 9))) == [messages.GpadlTorndown(9)]


def test_bad_teardowns(script: Script) -> None:
    """Unknown, wrong relid, unfinished, unanswered or under way: refused without an answer (case 099)."""
    script.guest(header(1, 9, GOOD))
    assert refusals(script.guest(messages.GpadlTeardown(1, 9))) == ["wrong state"]
    script.accept_gpadl(1, 9)
    assert refusals(script.guest(messages.GpadlTeardown(2, 9))) == ["unknown GPADL"]
    assert refusals(script.guest(messages.GpadlTeardown(7, 9))) == ["unknown channel"]
    assert refusals(script.guest(messages.GpadlTeardown(1, 8))) == ["unknown GPADL"]
    script.guest(gpadl.split(1, 7, [gpadl.whole_pages(range(30))])[0])
    assert refusals(script.guest(messages.GpadlTeardown(1, 7))) == ["wrong state"]
    script.guest(messages.GpadlTeardown(1, 9))
    assert refusals(script.guest(messages.GpadlTeardown(1, 9))) == ["wrong state"]


@pytest.mark.parametrize("page", [RAM_PAGES, 2**64 - 1])
def test_pages_outside_guest_memory(script: Script, page: int) -> None:
    """A page number that the partition does not have is refused; the last one it has is not."""
    good, bad = (gpadl.encode_ranges([gpadl.whole_pages(pfns)]) for pfns in ([RAM_PAGES - 1], [1, page, 2]))

    assert sent(script.guest(header(1, 8, bad))) == failed(1, 8)
    assert len(asked(script.guest(header(1, 8, good)))) == 1


def test_unfinished_gpadls_are_counted(script: Script) -> None:
    """Beyond the cap headers fail, and each one finished makes room (case 310)."""
    parts = [gpadl.split(1, n, [gpadl.whole_pages(range(30))]) for n in range(MAX_UNFINISHED_GPADLS + 1)]
    for first, _ in parts[:-1]:
        assert script.guest(first) == []

    assert sent(script.guest(parts[-1][0])) == failed(1, MAX_UNFINISHED_GPADLS)
    script.guest(parts[0][1])
    assert script.guest(parts[-1][0]) == []


def test_gpadls_are_counted(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the cap headers fail, and each teardown makes room (case 310)."""
    monkeypatch.setattr(gpadls, "MAX_GPADLS", 3)
    for handle in range(3):
        script.guest(header(1, handle, GOOD))
        script.accept_gpadl(1, handle)

    assert sent(script.guest(header(2, 3, GOOD))) == failed(2, 3)
    script.guest(messages.GpadlTeardown(1, 0))
    script.host(device_link.GpadlTornDown(1, 0))
    assert len(asked(script.guest(header(2, 3, GOOD)))) == 1


def test_pages_are_counted(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """All GPADLs together name so many pages and no more (case 310)."""
    monkeypatch.setattr(gpadls, "MAX_TOTAL_PAGES", 10)
    script.create_gpadl(1, 1, pages=6)
    script.accept_gpadl(1, 1)

    assert sent(script.create_gpadl(2, 2, pages=5)) == failed(2, 2)
    script.guest(messages.GpadlTeardown(1, 1))
    script.host(device_link.GpadlTornDown(1, 1))
    assert len(asked(script.create_gpadl(2, 2, pages=10))) == 1
