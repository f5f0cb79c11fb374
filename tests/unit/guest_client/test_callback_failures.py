"""What is logged when a driver's callback fails."""

import pytest

from guest_client.channel import log_failure
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
