"""docs/story.md is true: its bytes are played against the bus, and its diagrams are those of the tables."""

import json
import re
from pathlib import Path

import pytest

from tests import diagram
from tests.conformance import reader
from tests.conformance.run import play_on_bus
from vmbusd.bus.channels import TRANSITIONS, Event, State

ROOT = Path(__file__).resolve().parent.parent
STORY = diagram.PAGE.read_text()
VECTORS = [
    "contact-5.3",
    "vresp-5.3-connid1",
    "requestoffers-5.3",
    "offer-heartbeat",
    "alloffers",
    "offer-shutdown",
    "chan-util-0",
    "gpadl-created-ok",
    "chan-util-1",
    "open-result-ok",
    "chan-util-close-0",
    "chan-util-close-1",
    "gpadl-torndown",
    "unload-5.3",
    "unload-response",
]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The blocks of the story, one after another."""
    path = tmp_path / "story.vmb"
    path.write_text("\n".join(re.findall(r"```vmbus\n(.*?)```", STORY, re.DOTALL)))
    return path


def test_the_story_happens(script: Path) -> None:
    """The bus answers every message of the story with the story's bytes, and is in the states it tells of."""
    play_on_bus(reader.read(script))


def test_the_bytes_are_those_of_real_drivers(script: Path) -> None:
    """The messages are golden vectors; only the channel's number differs in the rest."""
    vectors = json.loads((ROOT / "tests" / "vectors" / "control-messages.json").read_text())
    golden = {vector["name"]: vector["hex"] for vector in vectors}
    told = {line.raw.hex() for line in reader.read(script).statements if getattr(line, "raw", None)}  # type: ignore[attr-defined]

    assert [name for name in VECTORS if golden[name] not in told] == []
    assert len(told) - len(VECTORS) == 4


def test_the_diagrams_are_the_tables() -> None:
    """Drawn again, the page does not change; `./dev diagram` mends it."""
    assert diagram.redrawn(STORY) == STORY
    assert [name for name in diagram.DIAGRAMS if f"<!-- diagram {name}: begin -->" not in STORY] == []


def test_every_entry_is_drawn() -> None:
    """The two drawings of the host have all arrows of its table between them, and none of another."""
    both = diagram.DIAGRAMS["host"]() + "\n" + diagram.DIAGRAMS["taken-away"]()
    arrows = {
        (State[state], Event[name.upper()], State[to])
        for state, to, names in re.findall(r"(\w+) --> (\w+): (.+)", both)
        for name in names.split(", ")
    }

    assert arrows == {(state, event, to) for state, row in TRANSITIONS.items() for event, to in row.items()}
