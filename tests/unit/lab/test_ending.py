"""How a scene ends: its exit status and its one line, whichever of signal and error comes first."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys
from vmbusd.abi.errors import TimedOut, VmbusError
from vmbusd.demo.ending import in_order

def scene():
{body}

sys.exit(in_order("vmbusd x", scene))
"""
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def run(*body: str, ignored: str = "-") -> tuple[int, str]:
    """Exit status and standard error of a program whose scene has these lines."""
    program = PROGRAM.format(body="\n".join(f"    {line}" for line in body))
    # Nothing is ignored, whatever this process was started with; `trap` sees what a shell was started with.
    shell = f'trap "" {ignored}; exec "$0" "$@"' if ignored != "-" else 'exec "$0" "$@"'
    command = ["env", "--default-signal", "sh", "-c", shell, sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def test_what_the_scene_returns_is_the_status() -> None:
    """Nothing is said."""
    assert run("return 1") == (1, "")


@pytest.mark.parametrize("kind", ["VmbusError", "TimedOut"])
def test_an_error_of_ours_is_one_line_and_status_2(kind: str) -> None:
    """Whatever other kind of error it is too."""
    assert run(f"raise {kind}('the move of relid 5 was not answered')") == (
        2,
        "vmbusd x: the move of relid 5 was not answered\n",
    )


def test_an_error_that_nobody_expected_is_status_3() -> None:
    """With its place; never 1, which says that something was lost."""
    status, errors = run("raise KeyError('x')")

    assert status == 3
    assert errors.startswith("Traceback")
    assert errors.endswith("KeyError: 'x'\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_the_status(number: signal.Signals) -> None:
    """128 and its number, without a word."""
    assert run(f"os.kill(os.getpid(), {number})", "signal.pause()") == (128 + number, "")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("kind", ["VmbusError", "KeyError"])
def test_an_error_while_undoing_does_not_hide_the_signal(number: signal.Signals, kind: str) -> None:
    """The status stays the signal's; the error is one line."""
    status, errors = run(
        "try:",
        f"    os.kill(os.getpid(), {number})",
        "    signal.pause()",
        "finally:",
        f"    raise {kind}('the link was lost')",
    )

    assert status == 128 + number
    assert errors.startswith(f"vmbusd x: while ending: {kind}:")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_changes_nothing(second: signal.Signals) -> None:
    """Undoing goes on to its end, and the status is the first one's."""
    assert run(
        "try:",
        "    os.kill(os.getpid(), signal.SIGTERM)",
        "    signal.pause()",
        "finally:",
        f"    os.kill(os.getpid(), {second})",
        "    print('undone', file=sys.stderr)",
    ) == (128 + signal.SIGTERM, "undone\n")


@pytest.mark.parametrize("name", ["HUP", "INT"])
def test_a_signal_that_was_ignored_stays_so(name: str) -> None:
    """As under nohup, or in the background of a shell without job control."""
    assert run(f"os.kill(os.getpid(), signal.SIG{name})", "return 0", ignored=name) == (0, "")
