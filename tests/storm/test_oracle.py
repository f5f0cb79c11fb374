"""The storm's judge, fed with calm points in which exactly one thing is wrong."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.storm.ledger import FORBIDDEN, Ledger
from tests.storm.oracle import Cell, Facts, Slot, judge, judge_counts
from tests.storm.packets import Progress

OPEN = "00000000-0000-0000-0000-000000010000"
CLOSED = "00000000-0000-0000-0000-000000010001"
PACKETS = "00000000-0000-0000-0000-000000010002"


def offer(instance: str, relid: int, generation: int) -> dict[str, Any]:
    return {"instance": instance, "relid": relid, "generation": generation}


def of_bus(instance: str, relid: int, state: str, generation: int) -> dict[str, Any]:
    return offer(instance, relid, generation) | {"flag": relid, "state": state, "host": 2, "target_vp": 1}


def of_guest(instance: str, relid: int, generation: int, *, is_open: bool) -> dict[str, Any]:
    return offer(instance, relid, generation) | {"vp": 1, "open": is_open, "closed": not is_open}


def of_packets(relid: int = 6, **packets: int) -> dict[str, Any]:
    return offer(PACKETS, relid, 9) | {"packets": {"generation": 9, "sent": 30, "back": 30, **packets}}


def good() -> Facts:
    """One open channel, one that the guest closed, and an open one of packets, of host link 2."""
    return Facts(
        slots={
            4: Slot(4, open=True, generation=7, vp=1, host=2),
            5: Slot(5, open=False, generation=3, vp=1, host=2),
            6: Slot(6, open=True, generation=9, vp=1, host=2),
        },
        cells={4: Cell(100, 100, 7)},
        bus=[
            of_bus(OPEN, 4, "open", 7),
            of_bus(CLOSED, 5, "closed", 3),
            of_bus(PACKETS, 6, "open", 9),
        ],
        guest={
            "channels": [
                of_guest(OPEN, 4, 7, is_open=True),
                of_guest(CLOSED, 5, 3, is_open=False),
                of_guest(PACKETS, 6, 9, is_open=True),
            ],
            "asked": 3,
            "outcomes": {"done": 2, "ChannelGone": 1},
            "statistics": {"refused": {"GpadlCreated": 1}},
        },
        hosts={2: [offer(OPEN, 4, 7), offer(CLOSED, 0, 0), of_packets()]},
        progress={6: Progress(30, 30, 0)},
    )


def changed(**changes: Any) -> Facts:
    return msgspec.structs.replace(good(), **changes)


def guest(**changes: Any) -> Facts:
    return changed(guest={**good().guest, **changes})


def channels(first: dict[str, Any], *others: dict[str, Any]) -> Facts:
    """With another open channel at the guest, and more of them."""
    return guest(channels=[{**good().guest["channels"][0], **first}, *good().guest["channels"][1:], *others])


def packets(**packets: int) -> Facts:
    """With other packets at the host."""
    return changed(hosts={2: [*good().hosts[2][:2], of_packets(**packets)]})


def test_nothing_wrong_is_nothing_said() -> None:
    """All agree, everything was seen, every question has its answer."""
    assert judge(good()) == []


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        pytest.param(changed(cells={4: Cell(100, 99, 7)}), "lost 1", id="a signal is lost"),
        pytest.param(changed(cells={4: Cell(100, 101, 7)}), "lost -1", id="more seen than produced"),
        pytest.param(changed(cells={4: Cell(9, 9, 6)}), "ring memory", id="the memory of another open"),
        pytest.param(changed(cells={}), "ring memory", id="no memory"),
        pytest.param(changed(bus=good().bus[1:]), "the bus has", id="the bus lost a channel"),
        pytest.param(guest(channels=good().guest["channels"][1:]), "the guest", id="the guest lost one"),
        pytest.param(changed(hosts={2: good().hosts[2][:1]}), "nobody offers", id="the host lost one"),
        pytest.param(channels({"generation": 6}), "different generations", id="a stale generation"),
        pytest.param(channels({"vp": 0}), "different targets", id="another target"),
        pytest.param(channels({"open": False}), "could not open", id="not open, and nobody closed it"),
        pytest.param(channels({}, of_guest("x", 9, 1, is_open=True)), "nobody offers", id="a stranger"),
        pytest.param(
            changed(slots={4: good().slots[4], 6: good().slots[6]}),
            "no slot of its own",
            id="a channel without its slot",
        ),
        pytest.param(
            changed(slots={**good().slots, 7: Slot(7, open=False, generation=1, vp=0, host=2)}),
            "of no channel",
            id="a slot without its channel",
        ),
        pytest.param(
            changed(slots={**good().slots, 5: Slot(5, open=True, generation=3, vp=1, host=2)}),
            "not closed everywhere",
            id="a closed channel whose slot is open",
        ),
        pytest.param(packets(back=28), "lost 2 packets", id="packets are lost on their way back"),
        pytest.param(
            changed(
                hosts={2: [*good().hosts[2][:2], of_packets(back=28)]}, progress={6: Progress(28, 28, 0)}
            ),
            "lost 2 packets",
            id="packets are lost on their way there",
        ),
        pytest.param(packets(generation=8), "another open", id="packets of another open"),
        pytest.param(changed(progress={}), "memory of", id="an open channel of packets without its state"),
        pytest.param(
            changed(progress={6: Progress(29, 30, 0)}), "the guest says", id="a packet that nobody noted"
        ),
        pytest.param(
            changed(progress={6: Progress(30, 29, 0)}), "the guest says", id="one that nobody sent back"
        ),
        pytest.param(guest(asked=4), "3 answers", id="a question without answer"),
        pytest.param(guest(asked=2), "3 answers", id="an answer too many"),
        pytest.param(guest(statistics={"refused": {"Offer": 1}}), "refused", id="an offer made twice"),
    ],
)
def test_what_is_wrong_is_said(facts: Facts, said: str) -> None:
    """Each fault alone is found."""
    assert any(said in text for text in judge(facts)), judge(facts)


def test_what_a_closed_channel_still_owed_is_not_lost() -> None:
    """An open that ended is not judged for what it had left."""
    closed = changed(
        hosts={2: [*good().hosts[2][:2], of_packets(relid=0, back=3) | {"generation": 0}]},
        slots={**good().slots, 6: Slot(6, open=False, generation=9, vp=1, host=2)},
        bus=[*good().bus[:2], of_bus(PACKETS, 6, "closed", 9)],
        guest={
            **good().guest,
            "channels": [*good().guest["channels"][:2], of_guest(PACKETS, 6, 9, is_open=False)],
        },
        progress={},
    )

    assert (judge(closed), closed.missing()) == ([], [])


def test_missing_packets_are_counted_for_each_channel() -> None:
    """The numbers behind lost and hung."""
    assert (good().missing(), packets(back=28).missing()) == ([], [2])


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_forbidden_count_is_a_violation(tmp_path: Path, name: str) -> None:
    """One of them is enough."""
    ledger = Ledger.make(tmp_path / "ledger")
    assert judge_counts(ledger.counts()) == []
    ledger.add(name)

    assert judge_counts(Ledger(tmp_path / "ledger").counts()) == [f"{name}: 1"]


def test_one_worker_is_doomed_and_may_be_pardoned(tmp_path: Path) -> None:
    """Whoever comes to the place first; nobody after a pardon."""
    ledger = Ledger.make(tmp_path / "ledger")
    ledger.doom(2)

    assert [ledger.is_doomed(place) for place in (1, 2, 2)] == [False, True, False]
    assert not ledger.pardon()
    ledger.doom(1)
    assert ledger.pardon()
    assert not ledger.is_doomed(1)


def test_the_ledger_knows_what_is_over(tmp_path: Path) -> None:
    """A generation is opened once, in order; a close never takes back a later one."""
    ledger = Ledger.make(tmp_path / "ledger")

    assert [ledger.note_open(9, generation) for generation in (1, 2, 2, 1)] == [True, True, False, False]
    ledger.note_close(9, 5)
    ledger.note_close(9, 4)
    assert (ledger.closed(9), ledger.closed(8)) == (5, 0)
