"""Which versions a guest asks for, and what it may say in each.

The list is Linux's: 5.3 down to 2.4. 6.0, which Linux does not know, and the two oldest, whose hosts cannot
meet a guest again after it left, are asked only if they are named. A contact goes to message connection 4
from 5.0 on and to 1 before, as everything else below 5.0 does.
Sources: Linux 6.1 connection.c vmbus_negotiate_version and vmbus_connect.
"""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

import msgspec

from vmbusd.abi import layout, link, messages, wire
from vmbusd.abi.errors import UsageError
from vmbusd.abi.messages import Feature

KNOWN: Final = (
    wire.V6_0,
    wire.V5_3,
    wire.V5_2,
    wire.V5_1,
    wire.V5_0,
    wire.V4_1,
    wire.V4_0,
    wire.V3_0,
    wire.V2_4,
    wire.V1_1,
    wire.V0_13,
)
"""Every version there is, newest first."""
VERSIONS: Final = KNOWN[1:9]
"""What is asked unless something else is named, newest first, each once (case 025)."""

HAS_STATE: Final = wire.V2_4
"""`connection_state` of a VERSION_RESPONSE counts from here on."""
HAS_MESSAGE_VP: Final = wire.V3_0
"""The host's messages go to the VP that the contact names; before that to VP 0 (case 012)."""
HAS_UNLOAD: Final = wire.V3_0
"""Linux sends no UNLOAD before: such a host does not meet a guest again (case 171)."""
HAS_SOCKETS: Final = wire.V4_0
HAS_MODIFY: Final = wire.V4_1
HAS_MODIFY_ANSWER: Final = wire.V5_3
HAS_SILO: Final = wire.V5_2

FEATURES: Final = int(
    Feature.GUEST_SIGNAL_PARAMETERS
    | Feature.MODIFY_CONNECTION
    | Feature.CLIENT_ID
    | Feature.PAUSE_RESUME
    | Feature.SERVER_MONITOR_PAGES
    | Feature.INTERRUPT_REDIRECTION
    | Feature.CONFIDENTIAL_CHANNELS
    | Feature.GPA_PINNING
)
"""What can be asked at 6.0."""
LONG_OPEN: Final = int(Feature.GUEST_SIGNAL_PARAMETERS | Feature.INTERRUPT_REDIRECTION)
"""With either of these granted only the long form of OPENCHANNEL is heard (case 024)."""


class Options(msgspec.Struct, frozen=True):
    """What a guest wants of its connection.

    `versions`, newest first; `minimum`, the oldest it puts up with (case 029); `features`, asked at 6.0;
    `client_id`, told at 6.0; `interfaces`, the only ones whose offers are taken, None for all (case 052);
    `vps`, over which channels are spread, and `slow`, interfaces that stay on VP 0 (case 120); `vp`, for the
    host's messages; `monitor_pages` and `interrupt_page`, guest physical addresses, 0 for none.
    """

    versions: tuple[int, ...] = VERSIONS
    minimum: int = 0
    features: int = 0
    client_id: UUID | None = None
    interfaces: frozenset[UUID] | None = None
    vps: int = 1
    slow: frozenset[UUID] = frozenset()
    vp: int = 0
    monitor_pages: tuple[int, int] = (0, 0)
    interrupt_page: int = 0


DEFAULT: Final = Options()


def text(version: int) -> str:
    """A version as people write it: 5.3."""
    return f"{version >> 16}.{version & 0xFFFF}"


def parse(version: str | int) -> int:
    """The number of "5.3", or of a number. Raises UsageError for a version that does not exist."""
    found = next((known for known in KNOWN if version in (known, text(known))), None)
    if found is None:
        raise UsageError(f"version {version}: not one of {', '.join(map(text, KNOWN))}")
    return found


def options(
    versions: Iterable[str | int] | None = None,
    minimum_version: str | int | None = None,
    interfaces: Iterable[UUID] | None = None,
    features: int = 0,
    client_id: UUID | None = None,
) -> Options:
    """The options of a guest from what its author says. Versions are put in order, newest first.

    Raises UsageError for a version or a feature that does not exist, or none at all.
    """
    asked = VERSIONS if versions is None else tuple(sorted({parse(one) for one in versions}, reverse=True))
    if not asked:
        raise UsageError("a guest without a version to ask for")
    if features & ~FEATURES:
        raise UsageError(f"features {features:#x}: only {FEATURES:#x} exist")
    if (features or client_id is not None) and asked[0] < wire.V6_0:
        raise UsageError(f"features and client ids need 6.0, the newest version asked is {text(asked[0])}")
    minimum = 0 if minimum_version is None else parse(minimum_version)
    if minimum > asked[0]:
        raise UsageError(f"at least {text(minimum)} is needed, at most {text(asked[0])} is asked")
    allowed = None if interfaces is None else frozenset(interfaces)
    return Options(asked, minimum, features, client_id, allowed)


def contact(version: int, wanted: Options) -> tuple[int, msgspec.Struct]:
    """The message connection and the INITIATE_CONTACT that ask for `version`."""
    vp = wanted.vp if version >= HAS_MESSAGE_VP else 0
    if version < wire.V5_0:
        old = messages.InitiateContactOld(version, vp, wanted.interrupt_page, *wanted.monitor_pages)
        return link.MESSAGE_CONNECTION_OLD, old
    features = wanted.features if version >= wire.V6_0 else 0
    if version >= wire.V6_0 and (wanted.client_id is not None or features & Feature.CLIENT_ID):
        features |= int(Feature.CLIENT_ID)
        client_id = wanted.client_id or UUID(int=0)
        return link.MESSAGE_CONNECTION_MULTI_CLIENT, messages.InitiateContact2(
            version, vp, layout.SINT, 0, features, *wanted.monitor_pages, client_id
        )
    return link.MESSAGE_CONNECTION_MULTI_CLIENT, messages.InitiateContact(
        version, vp, layout.SINT, 0, features, *wanted.monitor_pages
    )


def granted(version: int, wanted: Options, response: msgspec.Struct) -> int:
    """The features of a connection: what was asked and is answered, nothing below 6.0."""
    if version < wire.V6_0 or isinstance(response, messages.VersionResponse):
        return 0
    asked = wanted.features | (int(Feature.CLIENT_ID) if wanted.client_id is not None else 0)
    answered: int = response.supported_features  # type: ignore[attr-defined]
    return answered & asked
