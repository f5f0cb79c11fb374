"""What a guest chooses by itself: versions, event flags, VPs, when to post again."""

from uuid import UUID

import pytest

from guest_client import posting, versions
from guest_client.flags import EventFlags
from guest_client.posting import Backoff
from guest_client.spread import SLOW, Spread
from vmbusd.abi import messages, wire
from vmbusd.abi.errors import ResourceError, UsageError

FAST, QUIET = UUID(int=1), UUID(int=2)


def test_all_flags_taken() -> None:
    """2047 flags, the lowest first; one more is an error, and one that comes back is had again (case 238)."""
    flags = EventFlags()
    assert [flags.take() for _ in range(2047)] == list(range(1, 2048))
    with pytest.raises(ResourceError, match="out of event flags"):
        flags.take()

    flags.give_back(77)
    flags.give_back(0)
    assert flags.take() == 77
    with pytest.raises(ResourceError):
        flags.take()


def test_no_vp_twice_for_a_device() -> None:
    """The channels of a device share no VP while one is free, whatever other devices have (case 120)."""
    for others in range(8):
        spread = Spread(4)
        for _ in range(others):
            spread.choose(FAST, [])
        taken: list[int] = []
        for _ in range(8):
            taken.append(spread.choose(FAST, taken))

        assert sorted(taken[:4]) == [0, 1, 2, 3]
        assert sorted(taken) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_slow_devices_stay_on_vp_0() -> None:
    """Those that Linux knows to be slow, and those whose driver says so, take no turn (case 120)."""
    spread = Spread(4, [QUIET])

    assert [spread.choose(interface, []) for interface in (*SLOW, QUIET)] == [0] * (len(SLOW) + 1)
    assert [spread.choose(FAST, []) for _ in range(4)] == [0, 1, 2, 3]


def test_tries_come_ever_later_and_end() -> None:
    """1 us, doubled up to 2 s, a hundred tries in about three minutes; then it begins anew (case 294)."""
    backoff = Backoff()
    delays = []
    while (delay := backoff.failed()) is not None:
        delays.append(delay)

    assert len(delays) == posting.TRIES - 1
    assert delays[:3] == [1e-6, 2e-6, 4e-6]
    assert delays == sorted(delays)
    assert 120 < sum(delays) < 240
    backoff.failed()
    backoff.succeeded()
    assert backoff.failed() == 1e-6


def test_what_an_author_says_becomes_options() -> None:
    """Versions as text or number, in any order; nothing said means what Linux asks (case 025)."""
    assert versions.options() == versions.DEFAULT
    made = versions.options(["4.0", wire.V5_3, "5.3"], minimum_version="4.0", interfaces=[FAST])

    assert made.versions == (wire.V5_3, wire.V4_0)
    assert made.minimum == wire.V4_0
    assert made.interfaces == frozenset({FAST})


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"versions": ["5.4"]}, r"version 5\.4: not one of 6\.0, 5\.3"),
        ({"versions": []}, "without a version"),
        ({"minimum_version": "6.0"}, r"at least 6\.0 is needed, at most 5\.3"),
        ({"features": 1}, r"need 6\.0"),
        ({"client_id": FAST}, r"need 6\.0"),
        ({"versions": ["6.0"], "features": 0x100}, "only 0xff exist"),
    ],
)
def test_what_cannot_be_asked(arguments: dict[str, object], why: str) -> None:
    """Each is the author's mistake, and says what there is."""
    with pytest.raises(UsageError, match=why):
        versions.options(**arguments)  # type: ignore[arg-type]


def test_a_contact_in_every_version_is_one_that_the_host_reads() -> None:
    """Bytes, connection and fields of each (cases 002, 012, 013)."""
    wanted = versions.Options(versions.KNOWN, vp=3, monitor_pages=(0x1000, 0x2000), interrupt_page=0x3000)
    for version in versions.KNOWN:
        connection, message = versions.contact(version, wanted)
        read = wire.decode(wire.encode(message), wire.NOT_CONNECTED)

        assert read == message
        assert isinstance(message, messages.InitiateContact | messages.InitiateContactOld)
        assert message.vmbus_version_requested == version
        assert connection == (4 if version >= wire.V5_0 else 1)
        assert message.target_vcpu == (3 if version >= wire.V3_0 else 0)
        assert (message.monitor_page1, message.monitor_page2) == (0x1000, 0x2000)


def test_only_what_was_asked_is_granted() -> None:
    """A host that grants more is not believed, and below 6.0 there are no features (cases 006, 008)."""
    wanted = versions.Options(features=0x21)

    assert versions.granted(wire.V6_0, wanted, messages.VersionResponse2(1, 0, 1, 0xFF)) == 0x21
    assert versions.granted(wire.V6_0, wanted, messages.VersionResponse(1, 0, 1)) == 0
    assert versions.granted(wire.V5_3, wanted, messages.VersionResponse2(1, 0, 1, 0xFF)) == 0
