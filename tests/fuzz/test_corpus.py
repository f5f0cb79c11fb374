"""The fuzzer's corpus as a test, and the parts of the fuzzer that can be tested without one."""

import random
import subprocess
from pathlib import Path

import pytest

from tests.fuzz.run import CORPUS, IN_C, MAX_LENGTH, compile_target
from tests.fuzz.targets import TARGETS

INPUTS = sorted(file for file in CORPUS.rglob("*") if file.is_file())


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_the_corpus_finds_nothing(target: str) -> None:
    """Every kept input decodes or is refused, and a good guest is served after it (case 314)."""
    files = [file for file in INPUTS if file.parent.name == target]

    assert files
    for file in files:
        TARGETS[target](file.read_bytes())


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_random_bytes_find_nothing(target: str) -> None:
    """Neither does noise, which gets less far (case 314)."""
    noise = random.Random(7)
    for _ in range(300):
        TARGETS[target](noise.randbytes(noise.randrange(200)))


def test_every_target_has_its_length_and_corpus() -> None:
    """What is fuzzed is named in one place."""
    assert set(MAX_LENGTH) == set(TARGETS) == {Path(file).parent.name for file in INPUTS}
    assert all(file.stat().st_size <= MAX_LENGTH[file.parent.name] for file in INPUTS)


@pytest.mark.build
@pytest.mark.parametrize("target", sorted(IN_C))
def test_the_corpus_finds_nothing_in_c(target: str, tmp_path: Path) -> None:
    """The same inputs through the C program, under the address sanitizer and without a fuzzer (case 314)."""
    program = compile_target(target, "gcc", "address,undefined", tmp_path, "-DALONE", "-Werror")
    files = [str(file) for file in INPUTS if file.parent.name == target]
    done = subprocess.run([program, *files], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout) == (0, f"{len(files)} inputs\n"), done.stderr
