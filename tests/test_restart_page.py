"""Each row of docs/restart.md but that of the machine's crash names a test, and there is such a test."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_promise_of_the_page_is_tested() -> None:
    """The names in its last column are functions of the live restart tests."""
    page = (ROOT / "docs" / "restart.md").read_text()
    table = page.partition("| --- |")[2].partition("\n\n")[0].splitlines()[1:]
    tests = (ROOT / "tests" / "live" / "test_restart.py").read_text()
    untested = []
    for row in table:
        found = re.search(r"`(test_\w+)`", row)
        if found is None:
            untested.append(row.split("|")[1].strip())
        else:
            assert f"def {found[1]}(" in tests, found[1]
    assert len(table) == 7
    assert untested == ["machine crash"]
