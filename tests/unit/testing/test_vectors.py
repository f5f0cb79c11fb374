"""Golden vectors: ours agree with the real drivers' bytes, and a wrong vector is told by name."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from vmbusd.abi import wire
from vmbusd.testing import vectors
from vmbusd.testing.vector_fields import VectorError
from vmbusd.testing.vectors import Entry

FOLDER = Path(__file__).resolve().parents[2] / "vectors"
EVERY = [entry for file in sorted(FOLDER.glob("*.json")) for entry in vectors.entries(file)]
# One of each form: breaking all of them in every way would take minutes.
FORMS = list({(entry.message, tuple(entry.values["fields"])): entry for entry in EVERY}.values())
NOT_BYTES = {"interrupt_mask", "read_index", "ring_data_size"}
Change = Callable[[dict[str, Any]], object]


def named(entry: Entry) -> str:
    return f"{entry.file.stem}-{entry.name}"


def broken(entry: Entry, change: Change) -> VectorError:
    """The error of a vector after a change."""
    values = deepcopy(entry.values)
    change(values)
    with pytest.raises(VectorError) as caught:
        vectors.check(Entry(entry.file, entry.line, values))
    return caught.value


@pytest.mark.parametrize("entry", EVERY, ids=named)
def test_a_golden_vector_is_encoded_and_decoded(entry: Entry) -> None:
    """Fields give exactly the bytes, and the bytes give exactly the fields (cases 082, 083, 244)."""
    vectors.check(entry)


def test_every_message_has_golden_bytes() -> None:
    """No row of the message table is without a vector."""
    assert {row.name for row in wire.MESSAGES} <= {entry.message for entry in EVERY}


def test_the_whole_folder_passes() -> None:
    """Every vector is counted, none is skipped."""
    report = vectors.run(FOLDER)

    assert [str(failure) for failure in report.failures] == []
    assert report.passed == len(EVERY)


def without(name: str) -> Change:
    return lambda values: values["fields"].pop(name)


def field(name: str, value: object) -> Change:
    return lambda values: values["fields"].update({name: value})


def key(name: str, value: object) -> Change:
    return lambda values: values.update({name: value})


@pytest.mark.parametrize("entry", FORMS, ids=named)
def test_a_missing_field_is_an_error(entry: Entry) -> None:
    """Each field of each form, taken away; only what the bytes say twice may be absent."""
    for name in entry.values["fields"]:
        if name not in {"ranges", "transfer_page_set_id"} and entry.message != "RNDIS_MESSAGE":
            assert broken(entry, without(name)).field


@pytest.mark.parametrize("entry", FORMS, ids=named)
def test_a_value_of_another_type_is_named(entry: Entry) -> None:
    """null in the place of any field is refused, and so is a field that nobody knows."""
    for name in entry.values["fields"]:
        assert name in str(broken(entry, field(name, None)))
    assert broken(entry, field("relidd", 1)).field == "fields.relidd"
    assert broken(entry, key("hexx", "00")).field == "hexx"


@pytest.mark.parametrize("entry", FORMS, ids=named)
def test_another_number_is_noticed(entry: Entry) -> None:
    """A field that does not say what the bytes say fails the vector."""
    if entry.message in {"GUEST_SIGNAL", "EVENT_FLAG", "READ_SIGNAL"}:
        return
    for name, value in entry.values["fields"].items():
        if type(value) is int and name not in NOT_BYTES:
            broken(entry, field(name, value ^ 1))


@pytest.mark.parametrize("entry", [entry for entry in FORMS if "hex" in entry.values], ids=named)
def test_another_byte_is_noticed(entry: Entry) -> None:
    """Any bit of the bytes, turned over, fails the vector."""
    data = bytes.fromhex(entry.values["hex"])
    # What a guest leaves in the host's buffer is compared with the host's own request, below.
    seen = 44 if "answer_versions" in entry.values["fields"] else len(data)
    for at in {*range(min(seen, 64)), seen // 2, seen - 1}:
        turned = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        broken(entry, key("hex", turned.hex()))
    broken(entry, key("hex", data[:-1].hex()))
    assert broken(entry, key("size", len(data) + 1)).field == "size"


def test_an_unknown_kind_is_a_failure(tmp_path: Path) -> None:
    """It is neither skipped nor passed over."""
    file = tmp_path / "new.json"
    file.write_text('[\n {"name": "a", "message": "SOMETHING_NEW", "fields": {}, "hex": "", "size": 0}\n]')

    report = vectors.run(tmp_path)

    assert report.passed == 0
    assert [str(failure) for failure in report.failures] == [
        f"{file}:2: a: message: unknown kind of vector 'SOMETHING_NEW'"
    ]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "one JSON array"),
        ('{"name": "x"}', 1, "one JSON array, not an object"),
        ('[\n {"name": "a",\n  "message" "x"}\n]', 3, "':'"),
        ("[\n 1 2]", 2, "',' or ']'"),
        ("[] x", 1, "after the array"),
        ('[\n {"name": "a"}]', 2, "message: missing"),
        ("[\n\n 7]", 3, "must be an object, is an integer"),
        ('[{"name": "a", "message": "PAUSE", "fields": {"msgtype": 27}}]', 1, "hex: missing"),
    ],
)
def test_a_broken_file_is_told_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    """File, line and what was expected there."""
    file = tmp_path / "broken.json"
    file.write_text(text)

    failure = vectors.run(tmp_path).failures[-1]

    assert (failure.file, failure.line) == (file, line)
    assert words in failure.text


def test_a_name_is_used_once(tmp_path: Path) -> None:
    """Two vectors of one name in a file are a mistake of the file."""
    pause = next(entry for entry in EVERY if entry.name == "pause").values
    (tmp_path / "two.json").write_text(json.dumps([pause, pause]))

    report = vectors.run(tmp_path)

    assert report.passed == 1
    assert "also at line 1" in report.failures[0].text


def test_an_answer_is_made_from_its_request(tmp_path: Path) -> None:
    """What the guest leaves in the host's buffer is compared too."""
    pair = [deepcopy(entry.values) for entry in EVERY if entry.name.startswith("neg-kvp-")]
    pair[1]["hex"] = pair[1]["hex"][:-2] + "01"
    (tmp_path / "pair.json").write_text(json.dumps(pair))

    (failure,) = vectors.run(tmp_path).failures

    assert failure.text.startswith("neg-kvp-response: hex: at byte 55")


def test_the_command_closes_with_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 when all passed, 1 when one failed, 2 when there was nothing to check."""
    assert vectors.main([str(FOLDER)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{len(EVERY)} passed, 0 failed"
    assert vectors.main([str(tmp_path)]) == 2
    assert vectors.main([str(tmp_path / "nowhere")]) == 2
    (tmp_path / "x.json").write_text("[{}]")
    assert vectors.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 1 failed"


@pytest.mark.parametrize("name", ["crosses", "feature-off", "drain-all-size-minus-1"])
def test_another_signal_decision_is_noticed(name: str) -> None:
    """What the reader of a ring decides is compared, and where its index stands then."""
    (entry,) = [entry for entry in EVERY if entry.message == "READ_SIGNAL" and entry.name == name]

    assert broken(entry, key("signal", not entry.values["signal"])).field == "signal"
    assert broken(entry, key("read_index_after", 8)).field == "read_index_after"
    assert broken(entry, field("write_index", 8)).field == "fields.write_index"
