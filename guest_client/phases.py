"""The phases of a channel as its guest sees it, and the one table of what leads from one to the next.

`PHASES` decides what is legal; an event without an entry is not. CLOSING and RESCINDED last until no callback
of the channel can run, DRAINING until no subchannel is open any more. A rescind is legal in every phase but
the last four: an operation that was under way ends with it, because its answer may never come (case 135).
Sources: Linux 6.1 channel.c, channel_mgmt.c.
"""

import enum
from typing import Final


class Phase(enum.StrEnum):
    """Of one channel, as this guest sees it."""

    OFFERED = "offered"
    CREATING = "creating its GPADL"
    OPENING = "opening"
    OPEN = "open"
    DRAINING = "closing its subchannels"
    CLOSING = "closing"
    TEARING = "tearing its GPADL down"
    STUCK = "closed here only"
    STRANDED = "rescinded while its primary is open"
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
    CLOSE = "close"  # application
    DRAINED = "no subchannel is open"  # CLOSECHANNEL goes out
    QUIET = "no callback runs"
    TORNDOWN = "GPADL_TORNDOWN"
    RESCIND = "RESCIND_CHANNELOFFER"
    STRAND = "RESCIND_CHANNELOFFER, a subchannel"
    REACHED = "its primary closes"  # CLOSECHANNEL goes out
    UNSENT = "a message cannot be sent"
    RELEASE = "release"  # application: RELID_RELEASED goes out


PHASES: Final[dict[Phase, dict[Event, Phase]]] = {
    Phase.OFFERED: {
        Event.OPEN: Phase.CREATING,
        Event.RESCIND: Phase.RESCINDED,
        # No device can be made of it (case 051).
        Event.RELEASE: Phase.RELEASED,
    },
    Phase.CREATING: {
        Event.CREATED: Phase.OPENING,
        Event.NOT_CREATED: Phase.OFFERED,
        Event.UNSENT: Phase.OFFERED,
        Event.RESCIND: Phase.RESCINDED,
    },
    Phase.OPENING: {
        Event.OPENED: Phase.OPEN,
        # The slot was open for a moment: a callback may still run (case 079).
        Event.NOT_OPENED: Phase.CLOSING,
        Event.UNSENT: Phase.TEARING,
        Event.RESCIND: Phase.RESCINDED,
    },
    Phase.OPEN: {
        Event.CLOSE: Phase.DRAINING,
        Event.RESCIND: Phase.RESCINDED,
        # Its removal waits for the close of its primary (case 119).
        Event.STRAND: Phase.STRANDED,
    },
    Phase.DRAINING: {Event.DRAINED: Phase.CLOSING, Event.RESCIND: Phase.RESCINDED},
    Phase.CLOSING: {
        Event.QUIET: Phase.TEARING,
        # The host has the rings still: their memory is kept (case 078).
        Event.UNSENT: Phase.STUCK,
        Event.RESCIND: Phase.RESCINDED,
    },
    Phase.TEARING: {
        Event.TORNDOWN: Phase.OFFERED,
        Event.UNSENT: Phase.STUCK,
        Event.RESCIND: Phase.RESCINDED,
    },
    Phase.STUCK: {Event.CLOSE: Phase.DRAINING, Event.RESCIND: Phase.RESCINDED},
    Phase.STRANDED: {Event.REACHED: Phase.RESCINDED},
    Phase.RESCINDED: {Event.QUIET: Phase.GONE},
    Phase.GONE: {Event.RELEASE: Phase.RELEASED},
    Phase.RELEASED: {},
}
