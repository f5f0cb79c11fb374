"""The phases of a channel as its guest sees it, and the one table of what leads from one to the next.

`PHASES` decides what is legal; an event without an entry is not. CLOSING and RESCINDED last until no callback
of the channel can run. A rescind is legal in every phase but the last three: an operation that was under way
ends with it, because its answer may never come (case 135). Sources: Linux 6.1 channel.c, channel_mgmt.c.
"""

import enum
from typing import Final


class Phase(enum.StrEnum):
    """Of one channel, as this guest sees it."""

    OFFERED = "offered"
    CREATING = "creating its GPADL"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    TEARING = "tearing its GPADL down"
    RESCINDED = "rescinded"
    GONE = "gone"
    RELEASED = "released"


class Event(enum.StrEnum):
    """What can happen to a channel; the values are for people."""

    OPEN = "open"  # application: GPADL_HEADER goes out
    CREATED = "GPADL_CREATED"
    NOT_CREATED = "GPADL_CREATED, refused"
    OPENED = "OPENCHANNEL_RESULT"
    NOT_OPENED = "OPENCHANNEL_RESULT, refused"
    CLOSE = "close"  # application: CLOSECHANNEL goes out
    QUIET = "no callback runs"
    TORNDOWN = "GPADL_TORNDOWN"
    RESCIND = "RESCIND_CHANNELOFFER"
    RELEASE = "release"  # application: RELID_RELEASED goes out


PHASES: Final[dict[Phase, dict[Event, Phase]]] = {
    Phase.OFFERED: {Event.OPEN: Phase.CREATING, Event.RESCIND: Phase.RESCINDED},
    Phase.CREATING: {
        Event.CREATED: Phase.OPENING,
        Event.NOT_CREATED: Phase.OFFERED,
        Event.RESCIND: Phase.RESCINDED,
    },
    Phase.OPENING: {
        Event.OPENED: Phase.OPEN,
        # The slot was open for a moment: a callback may still run (case 079).
        Event.NOT_OPENED: Phase.CLOSING,
        Event.RESCIND: Phase.RESCINDED,
    },
    Phase.OPEN: {Event.CLOSE: Phase.CLOSING, Event.RESCIND: Phase.RESCINDED},
    Phase.CLOSING: {Event.QUIET: Phase.TEARING, Event.RESCIND: Phase.RESCINDED},
    Phase.TEARING: {Event.TORNDOWN: Phase.OFFERED, Event.RESCIND: Phase.RESCINDED},
    Phase.RESCINDED: {Event.QUIET: Phase.GONE},
    Phase.GONE: {Event.RELEASE: Phase.RELEASED},
    Phase.RELEASED: {},
}
