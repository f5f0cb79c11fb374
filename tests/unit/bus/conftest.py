"""Every test of a script is played twice: by a bus, and by a daemon that dies at almost every input."""

from random import Random
from typing import Any

import pytest

from tests.unit.bus import script
from tests.unit.bus.daemon import Daemon
from vmbusd.bus.options import BusOptions


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # No autouse fixture: the random walks are test cases of unittest, which take no parameters.
    metafunc.fixturenames.append("played_by")
    metafunc.parametrize("played_by", ["bus", "daemon"], indirect=True)


@pytest.fixture
def played_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a `Script` plays with."""

    def daemon(*, options: BusOptions | None, **sizes: Any) -> Daemon:
        return Daemon(options or BusOptions(), dice=Random(7), **sizes)

    if request.param == "daemon":
        monkeypatch.setattr(script, "Bus", daemon)
