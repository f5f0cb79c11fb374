"""Scripts of messages for the guest's protocol machine: what is told to it, what it did."""

from typing import Any, TypeVar
from uuid import UUID

import msgspec

from guest_client import actions
from guest_client.actions import Action
from guest_client.client import Client
from guest_client.phases import Phase
from vmbusd.abi import messages, wire

INTERFACE = UUID(int=0x1111)
A = TypeVar("A")


def offer(relid: int, *, instance: int | None = None, index: int = 0) -> messages.Offer:
    instance_id = UUID(int=relid if instance is None else instance)
    return messages.Offer(
        INTERFACE,
        instance_id,
        0,
        0,
        0,
        0,
        bytes(120),
        index,
        0,
        relid,
        0xFF,
        0,
        1,
        (0x2000 + relid) & 0xFFFFFFFF,
    )


def tell(client: Client, message: msgspec.Struct) -> list[Action]:
    return client.receive(wire.encode(message))


def sent(happened: list[Action]) -> list[msgspec.Struct]:
    posts = [action for action in happened if isinstance(action, actions.Post)]
    return [wire.decode(post.data, wire.V5_3) for post in posts]


def only(happened: list[Action], kind: type[A]) -> list[A]:
    return [action for action in happened if isinstance(action, kind)]


def ends(happened: list[Action]) -> dict[Any, Exception | None]:
    return {done.token: done.error for done in only(happened, actions.Done)}


def connected(*relids: int) -> Client:
    client = Client()
    client.contact("contact")
    tell(client, messages.VersionResponse(1, 0, 1))
    client.request_offers()
    for relid in relids:
        tell(client, offer(relid))
    tell(client, messages.AllOffersDelivered())
    return client


def begin_open(client: Client, relid: int, token: str = "open") -> list[Action]:
    return client.open(relid, token, pfns=range(8, 12), downstream=2, target_vp=1, user_data=b"hello")


def opened(relid: int = 5) -> Client:
    client = connected(relid)
    begin_open(client, relid)
    tell(client, messages.GpadlCreated(relid, client.channels[relid].gpadl, 0))
    tell(client, messages.OpenResult(relid, relid, 0))
    assert client.channels[relid].phase is Phase.OPEN
    return client
