"""Every limit of the daemon, with its reason, and the descriptor limit itself.

The kernel always hands out the lowest free descriptor number, so a number close to the limit means that
nearly all are in use: that is how `scarce` knows without counting. Source: getrlimit(2), accept(2).
"""

import gc
import resource
from typing import Final

RESERVED_DESCRIPTORS: Final = 16
"""Kept free for answering: a refusal, a host's page, doorbell and pidfd, a table reopened for one link."""
HELLO_TIMEOUT: Final = 5.0
"""Seconds a new link may stay silent; clients say hello at once, it only has to outlast a slow machine."""
GRACE: Final = 10.0
"""Seconds a link that lost its socket may be away: a daemon that crashed is back in less, by hand too."""
MAX_GRACE: Final = 3600.0
"""Longest grace time that can be configured; whoever is away longer does not come back."""
WRONG_TOKENS: Final = 8
WRONG_TOKEN_WINDOW: Final = 10.0
WRONG_TOKEN_DELAY: Final = 1.0
"""So many wrong tokens of one uid in so many seconds are answered at once, each further one this much later:
an honest client shows one wrong token in its life.
"""
WRONG_TOKEN_UIDS: Final = 1024
"""Uids whose wrong tokens are remembered at a time."""
MAX_LINKS: Final = 4096
"""Guest and host links of one daemon; a partition of 64 VPs needs 65 and its hosts."""
MAX_ADMIN_LINKS: Final = 64
"""Admin connections at a time: people and scripts, not a data path."""
MAX_PARTITIONS: Final = 1024
"""Partitions of one daemon; each needs at least a dozen descriptors and 360 KiB of /dev/shm."""
MAX_HOST_LINKS: Final = 64
"""Host links of one partition: with 64 VPs a welcome then carries 5 + 64 + 128 of at most 253 descriptors."""
MAX_QUEUE_BYTES: Final = 16 << 20
"""Output that may wait for one slow peer: 2047 offers are 0.6 MB, the largest GPADL request is 64 KiB."""
OUTPUT_HIGH: Final = 2 << 20
OUTPUT_LOW: Final = 512 << 10
"""Output to a guest at which it is heard no more, and at which it is heard again: 2047 offers, the longest
answer there is, fit below the first.
"""
QUEUE_PACKET_COST: Final = 256
"""What a queued packet costs besides its bytes, so that many small ones are bounded too."""
CATCH_UP: Final = 1024
"""Packets taken in at once when somebody must know whether a link has ended: a socket holds a few hundred."""
ACCEPT_BURST: Final = 64
"""Connections accepted before the others get their turn."""
ACCEPT_RETRY: Final = 0.1
"""Seconds until accepting is tried again when the machine, not we, ran out of descriptors or memory."""
FAREWELL_TIMEOUT: Final = 5.0
"""Seconds in which a peer that does not read may still make room for the reason why its link ends."""
SOCKET_BUFFER: Final = 1 << 20
"""Asked of the kernel (it may give less): most bursts of offers then need no queue of ours."""
MAX_ADMIN_REQUEST: Final = 64 << 10
"""Bytes of one admin request line."""
MAX_ADMIN_OUTPUT: Final = 8 << 20
"""Answers that may wait for a slow admin client; the largest, all channels of a partition, is under 1 MiB."""
CLAIM_POLL_FIRST: Final = 0.001
CLAIM_POLL_MAX: Final = 0.010
"""Seconds between looks at the claims of closing channels, doubling from first to max."""
SNAPSHOT_RETRY: Final = 1.0
"""Seconds until a snapshot for which there was no room is tried again."""
ORDER_PATIENCE: Final = 5.0
"""Seconds in which an order of the administrator is acknowledged; `vmbusctl` itself waits for 10."""
WORKER_PATIENCE: Final = 9.0
"""Seconds in which a guest gives a VP a worker by order: it starts an interpreter, on a busy machine even."""
MONITOR_LATENCY: Final = 1000
"""Latency of a monitored channel whose guest asks for none, in units of 100 ns: what Hyper-V is known for."""
SHORTEST_SCAN: Final = 100_000
"""Nanoseconds between scans of a monitor page, however little a guest asks for: a scan costs some 20 000."""
VP_VACANT_GRACE: Final = 2.0
"""Seconds a VP may lack its worker before it is retired: a supervisor's restart takes less."""
OBJECT_CHECK_INTERVAL: Final = 1.0
"""Seconds between looks whether the shared objects are still what was created."""
HEARTBEAT_INTERVAL: Final = 0.9
"""Seconds between two looks at a heartbeat, at least: it shares the looks at the objects, which come sooner
when something happens."""
YOUNG_SET: Final = 2.0
"""Seconds in which a set without locked table may still be under construction by another daemon."""
REMEMBERED_KINDS: Final = 64
"""Kinds of trouble remembered per link to log each once; further kinds are only counted."""
LOG_LINES: Final = 100
LOG_INTERVAL: Final = 10.0
"""Lines of one event logged in so many seconds: a person reads fewer, a flood of connects makes more."""
COLLECT_AFTER: Final = 50_000
"""Objects that may form cycles, made and not freed, before the collector looks at the young ones: a few times
what the open of 2047 channels makes. Looks at everything follow from these, and cost tens of milliseconds."""


def calm_collector() -> None:
    """Collect once, then leave alone what a start has made: it stays until the end.

    Packets, messages and effects are freed by their counts. Cycles come from links and partitions that ended,
    and wait a little longer for the collector.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


def raise_descriptor_limit() -> int:
    """Raise RLIMIT_NOFILE to the hard limit; returns what is in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def descriptors() -> int:
    """How many descriptors may be open before the reserve begins."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_DESCRIPTORS


def scarce(fd: int) -> bool:
    """Whether a descriptor just obtained came out of the reserve."""
    return fd >= descriptors()
