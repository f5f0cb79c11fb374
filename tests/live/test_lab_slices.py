"""Slices of the lab in which something goes wrong that is not the lists' fault: it is told, not hidden."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.live.lab_drivers import Forgetful
from vmbusd.demo.processes import own_daemon
from vmbusd.lab import scene as scenes
from vmbusd.lab.scene import Scene
from vmbusd.lab.slices import play

pytestmark = pytest.mark.live


@contextmanager
def lab_scene(vps: int = 2, channels: int = 16) -> Iterator[Scene]:
    with (
        own_daemon("lab", vps) as runtime_dir,
        scenes.scene(runtime_dir, "lab", vps=vps, channels=channels, hosts=1, rate=None) as running,
    ):
        yield running


def test_a_callback_that_never_reaches_its_driver_is_a_drop_of_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cells say what was called, not the core: the sum, the picture and the first drop show it."""
    monkeypatch.setattr(scenes, "LabDriver", Forgetful)
    with lab_scene() as running:
        slice_ = play(running, "global", 0.5)

    assert slice_.dropped > 0
    assert slice_.hung > 0
    assert slice_.missed == 0
    assert slice_.drops[-1][1] == slice_.dropped
    assert slice_.first_drop_seconds == slice_.drops[-1][0]
