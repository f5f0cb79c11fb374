"""What is logged when a driver's callback fails."""

from typing import cast

import pytest

from guest_client.channel import Channel, log_failure
from guest_client.probing import Probing
from vmbusd.abi.errors import ChannelGone, LinkClosed, ObjectDead, UsageError


@pytest.mark.parametrize(
    "error", [ChannelGone("relid 3 has no ring memory"), LinkClosed("a"), ObjectDead("b")]
)
def test_a_channel_that_ended_under_a_callback_is_one_line(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """It says the flag and why; where the driver stood does not matter."""
    log_failure(5, error)

    (record,) = caplog.records
    assert record.getMessage() == f"event flag 5: its driver's callback failed: {error}"
    assert record.exc_info is None


@pytest.mark.parametrize("error", [ValueError("x"), UsageError("y")])
def test_what_may_be_the_drivers_mistake_is_logged_with_its_place(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """With the traceback."""
    log_failure(5, error)

    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize(
    ("error", "with_place"), [(ChannelGone("relid 3 is gone"), False), (ValueError("x"), True)]
)
def test_a_channel_that_ended_before_its_probe_is_one_line(
    error: Exception, with_place: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A rescind may pass it; a mistake of the driver is shown with its place."""
    failed: list[Channel] = []
    probing = Probing(failed.append)
    channel = cast(Channel, "a channel")

    def asked() -> None:
        raise error

    probing.probe(channel, asked)
    probing.stop()
    probing.start()
    probing.join()

    (record,) = caplog.records
    assert record.getMessage() == f"'a channel': its driver's probe failed: {error}"
    assert (record.exc_info is not None) == with_place
    assert failed == [channel]
