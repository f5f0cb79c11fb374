"""The example of docs/faults.md, taken from the page as it stands there, and its tables."""

import re
from pathlib import Path

import pytest

from tests.live.daemon import ROOT, daemon, eventually
from tests.live.test_readme import DEVICE, running
from vmbusd.server.fault_rules import Kind
from vmbusd.server.steps import Step

PAGE = (ROOT / "docs/faults.md").read_text()


@pytest.mark.live
def test_the_example_loses_doorbells_and_rescues_signals(runtime_dir: Path, tmp_path: Path) -> None:
    """Beside the README's device; at its end no fault is armed."""
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    example = example.replace('Faults("demo")', f'Faults("demo", runtime_dir={str(runtime_dir)!r})')
    device, printed = tmp_path / "device", tmp_path / "printed"
    with (
        daemon(runtime_dir, "--partition", "demo") as vmbusd,
        running(DEVICE, device, runtime_dir),
    ):
        eventually(lambda: vmbusd.status("demo")["channels"], "its channel")
        with running(example, printed, runtime_dir) as program:
            eventually(lambda: program.poll() is not None, "it ends", 60)
        found = re.fullmatch(r"doorbells lost: (\d+) signals rescued: (\d+)\n", printed.read_text())
        assert found is not None, printed.read_text()
        assert int(found[1]) > 0
        assert int(found[2]) > 0
        assert vmbusd.status("demo")["faults"] == {"armed": False, "rules": []}


@pytest.mark.parametrize("name", [*Kind, *Step])
def test_the_page_names_every_fault_of_the_daemon(name: str) -> None:
    """Kinds and steps."""
    assert f"`{name}`" in PAGE
