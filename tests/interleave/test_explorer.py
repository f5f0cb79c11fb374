"""The explorer itself: it finds mistakes in the model and in the real functions, and passes what is sound."""

import re
from pathlib import Path

import pytest

from tests.interleave.run import (
    MISTAKES,
    MOST_STATES,
    OTHER_RULES,
    SOUND,
    Result,
    Search,
    build,
    cases,
    closing,
    failures,
    passes,
    run,
)

PROTOCOL = Path(__file__).resolve().parents[2] / "docs" / "signal-protocol.md"

pytestmark = pytest.mark.build


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explorer")
    build(folder)
    return folder


def found(result: Result, rule: str) -> bool:
    return result.found and result.rule == rule and result.schedule != ""


def test_a_missing_second_look_is_found_in_the_real_functions(binaries: Path) -> None:
    """A worker that sleeps without a second look loses a signal, and one preemption shows it."""
    result = run(binaries, Search("real", "sleep-wake", "no_second_look", (1, 0, 0)))

    assert found(result, "I1")
    assert result.figures["preemptions"] == "1"


def test_a_store_buffer_mistake_is_found_in_the_real_functions(binaries: Path) -> None:
    """A slot closed by a store that waits in a buffer lets a callback begin after the close."""
    result = run(binaries, Search("real", "close", "slot_not_seq_cst", (0, 2, 0)))

    assert found(result, "I3")


def test_the_store_buffer_mistake_needs_the_store_buffer(binaries: Path) -> None:
    """With every store in memory at once the same mistake is invisible."""
    result = run(binaries, Search("real", "close", "slot_not_seq_cst", (2, 0, 0)))

    assert not result.found


@pytest.mark.parametrize(
    ("case", "mistake"),
    [
        ("signal-many-offline", "no_target_reload"),
        ("signal-many-stop", "already_set_returns"),
        ("interrupt-page-offline", "no_target_reload"),
        ("nap", "no_second_look"),
        ("nap", "idle_not_seq_cst"),
    ],
)
def test_no_function_is_left_out(binaries: Path, case: str, mistake: str) -> None:
    """A batch, a signal behind an interrupt page and a nap look again as a single signal and a sleep do."""
    assert found(run(binaries, Search("real", case, mistake, (1, 1, 1))), "I1")
    assert passes(run(binaries, Search("real", case, SOUND, (1, 1, 1))))


@pytest.mark.parametrize("engine", ["model", "real"])
def test_a_stopped_worker_does_not_stop_the_others(binaries: Path, engine: str) -> None:
    """Who waits for a claim of a stopped VP loses another channel's signal; who leaves AGAIN none."""
    assert found(run(binaries, Search(engine, "two-channels-stop", "claimed_waited", (1, 0, 1))), "I1")
    assert passes(run(binaries, Search(engine, "two-channels-stop", SOUND, (1, 1, 1))))


def test_states_that_differ_are_not_taken_for_one(binaries: Path) -> None:
    """The shortest schedule is found: no state on its way passes for another that was met before."""
    shortest = run(binaries, Search("real", "interrupt-page", "page_before_flag", (2, 3, 1)))

    assert shortest.figures["steps"] == "25"


def test_an_endless_bounce_is_found_in_the_model(binaries: Path) -> None:
    """Putting a claimed channel's bit back is a cycle of the model's states."""
    assert found(run(binaries, Search("model", "retarget", "claimed_put_back")), "I4")


@pytest.mark.parametrize(
    ("case", "mistake", "rule"),
    [
        ("ring-data", "ring_no_second_look", "I1"),
        ("ring-data", "ring_unmask_not_seq_cst", "I1"),
        ("ring-data", "ring_publish_not_seq_cst", "I1"),
        ("ring-space", "ring_pending_not_seq_cst", "I4"),
        ("ring-space", "ring_no_space_look", "I4"),
        ("ring-space", "ring_commit_not_seq_cst", "I4"),
    ],
)
def test_a_lost_wake_of_a_ring_is_found(binaries: Path, case: str, mistake: str, rule: str) -> None:
    """Each fence and each second look of a ring is needed (case 285, case 286, case 287, case 288)."""
    assert found(run(binaries, Search("real", case, mistake, (2, 3, 0))), rule)


@pytest.mark.parametrize(
    "case",
    [
        "sleep-wake",
        "two-hosts",
        "retarget",
        "close",
        "reopen-retarget",
        "death",
        "death-offline",
        "offline",
        "offline-vacant-restart",
        "host-death-offline",
        "close-death",
        "reuse",
        "percpu-target-first",
        "interrupt-page",
        "ring-data",
        "ring-space",
        "ring-shared-death",
    ],
)
def test_the_real_functions_pass_a_small_bound(binaries: Path, case: str) -> None:
    """The shipped functions keep every rule under every schedule with one preemption."""
    result = run(binaries, Search("real", case, SOUND, (1, 1, 1)))

    assert passes(result)
    assert int(result.figures["searched"]) > 10


def test_the_model_passes(binaries: Path) -> None:
    """Every state of the smallest model keeps every rule."""
    assert passes(run(binaries, Search("model", "sleep-wake", SOUND)))


@pytest.mark.parametrize(
    ("case", "mistake"),
    [
        ("begin", SOUND),
        ("death", SOUND),
        ("host-death", SOUND),
        ("host-death-vacant", SOUND),
        ("daemon-death", SOUND),
        ("daemon-host-death", SOUND),
        ("percpu-answer", SOUND),
        ("sleep-wake", "idle_not_seq_cst"),
        ("two-channels", "shared_mark_before_post"),
        ("close", "slot_not_seq_cst"),
        ("death", "taken_after_clear"),
        ("death-close", "recovery_bits_before_claims"),
        ("adoption", "target_not_seq_cst"),
        ("daemon-death", "recovery_clears_taken_first"),
        ("daemon-host-death", "no_ring_at_start"),
        ("host-death-vacant", "handover_sets_once"),
        ("two-channels-stop", "claimed_waited"),
    ],
)
def test_the_reductions_change_no_verdict(binaries: Path, case: str, mistake: str) -> None:
    """A model that leaves states out finds what it finds when it visits them all, and as soon."""
    reduced = run(binaries, Search("model", case, mistake))
    full = run(binaries, Search("model", case, mistake, reduced=False))

    assert (reduced.found, reduced.rule) == (full.found, full.rule)
    assert int(reduced.figures["searched"]) < int(full.figures["searched"])
    # A store that only its own process can look at needs no step to reach memory.
    assert not full.found or int(reduced.figures["steps"]) <= int(full.figures["steps"])


@pytest.mark.parametrize(
    "case", ["death", "adoption", "host-death", "daemon-death", "daemon-host-death", "rescind"]
)
def test_the_model_passes_whoever_dies(binaries: Path, case: str) -> None:
    """Deaths of workers, hosts and the daemon at any step break no rule of the sound model."""
    assert passes(run(binaries, Search("model", case, SOUND)))


@pytest.mark.parametrize(
    ("case", "dropped_by"), [("percpu-1", "CPU A"), ("percpu-2", "CPU B"), ("percpu-answer", "CPU A")]
)
def test_lists_per_cpu_lose_an_interrupt(binaries: Path, case: str, dropped_by: str) -> None:
    """Both interleavings of docs/why.md are found in the per-CPU design; the table beside it loses none."""
    lost = run(binaries, Search("model", case, "percpu_lists"))

    assert found(lost, "I1")
    assert re.search(rf"{dropped_by} +walk the list: not found", lost.schedule)
    assert passes(run(binaries, Search("model", case, SOUND)))


def test_a_sweep_that_sets_once_is_found(binaries: Path) -> None:
    """A bit set again on the old page by a host that dies is lost to a sweep that sets once."""
    lost = run(binaries, Search("real", "host-death-offline", "handover_sets_once", (2, 0, 1)))

    assert found(lost, "I1")


def test_a_drain_that_clears_what_it_has_not_seen_is_found(binaries: Path) -> None:
    """A neighbour's bit that is set between a drain's look and its clear stays for the next drain."""
    assert found(run(binaries, Search("model", "begin", "drain_clears_all")), "I1")
    assert found(run(binaries, Search("real", "neighbours", "drain_clears_all", (1, 0, 0))), "I1")
    assert passes(run(binaries, Search("real", "neighbours", SOUND, (1, 1, 0))))


@pytest.mark.parametrize("case", ["percpu-move-first", "percpu-target-first"])
def test_the_lists_of_the_lab_lose_an_interrupt(binaries: Path, case: str) -> None:
    """The lab's own lists lose one in either order of a move, the table in the same program none."""
    assert found(run(binaries, Search("real", case, "percpu_lists", (1, 1, 0))), "I1")
    assert passes(run(binaries, Search("real", case, SOUND, (1, 1, 0))))


@pytest.mark.parametrize(("case", "rule"), [("death", "I1"), ("offline-death", "I2"), ("death-close", "I3")])
def test_a_worker_admitted_too_early_breaks_three_rules(binaries: Path, case: str, rule: str) -> None:
    """Recovery then loses the new worker's bits, frees its claim, or ends a close under its callback."""
    result = run(binaries, Search("model", case, "admitted_before_recovery"))

    assert found(result, rule)
    assert passes(result)


def mistakes_of(document: Path) -> dict[str, set[str]]:
    """The table of mistakes: each name with the rules that it breaks."""
    text = document.read_text().split("\n## 8. ")[1]
    rows = re.findall(r"^\| `(\w+)`[^|]*\| (I\d(?:, I\d)*) \|", text, re.MULTILINE)
    return {name: set(rules.split(", ")) for name, rules in rows}


def test_every_mistake_that_is_documented_is_seeded() -> None:
    """docs/signal-protocol.md section 8 and the explorer name the same mistakes and the same rules."""
    seeded = {name: {rule} for name, (rule, _, _) in MISTAKES.items() if not name.startswith("ring_")}
    for (mistake, _), rule in OTHER_RULES.items():
        seeded[mistake].add(rule)

    assert mistakes_of(PROTOCOL) == seeded


def test_every_mistake_of_the_protocol_is_found_in_the_model(binaries: Path) -> None:
    """Only those of rings and of the interrupt page are left to the real functions; every model is there."""
    models = cases(binaries, "model")

    assert [
        name for name, (_, model, _) in MISTAKES.items() if not model and not name.startswith("ring_")
    ] == ["page_before_flag"]
    assert {case for _, model, _ in MISTAKES.values() for case in model.split()} <= models.keys()


def test_models_that_grow_too_large_fail() -> None:
    """All models together have a limit; more states than that are a failure, whatever was found."""
    small = Result(
        Search("model", "begin", SOUND), False, "", {"searched": "40", "seconds": "0.5", "steps": "9"}, ""
    )

    assert failures([small, small], 80) == []
    assert failures([small, small], 79) == ["the models have 80 states, more than 79"]
    assert MOST_STATES == 5_000_000
    assert closing([small, small], 0, 2.0) == (
        "explore: 2 searches, 0 failed, 2 s; model: 80 states, 1.0 s; real: 0 states, 0.0 s"
    )
