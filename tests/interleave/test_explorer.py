"""The explorer itself: it finds mistakes in the model and in the real functions, and passes what is sound."""

from pathlib import Path

import pytest

from tests.interleave.run import SOUND, Result, Search, build, passes, run

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
    ["sleep-wake", "two-hosts", "retarget", "close", "reopen-retarget", "death", "ring-data", "ring-space"],
)
def test_the_real_functions_pass_a_small_bound(binaries: Path, case: str) -> None:
    """The shipped functions keep every rule under every schedule with one preemption."""
    result = run(binaries, Search("real", case, SOUND, (1, 1, 1)))

    assert passes(result)
    assert int(result.figures["searched"]) > 10


def test_the_model_passes(binaries: Path) -> None:
    """Every state of the smallest model keeps every rule."""
    assert passes(run(binaries, Search("model", "sleep-wake", SOUND)))
