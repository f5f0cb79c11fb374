"""A client that is called and told anything in any order keeps its promises.

Every operation ends exactly once; ring memory is given back at most once and only when no callback can run
and the host has let go, or has rescinded; no bytes raise; nothing is left when the connection is over.
"""

import itertools
import random
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest

from guest_client import actions
from guest_client.actions import Action
from guest_client.client import Client
from guest_client.entries import State
from guest_client.phases import Phase
from guest_client.versions import KNOWN, Options
from vmbusd.abi import messages, wire
from vmbusd.abi.errors import LinkLost, ResourceError, VmbusError

RELIDS = range(1, 7)
STEPS = 400
FEATURES = 0x27


class Walk:
    """One client, what it was asked and what it did."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.version = self.random.choice(KNOWN)
        self.client = Client(Options((self.version,), features=FEATURES, vps=2))
        self.tokens = itertools.count()
        self.waiting: set[Any] = set()
        self.memory: set[int] = set()
        self.watched: list[int] = []
        self.posted: list[bytes] = []
        self.released: Counter[int] = Counter()
        self.now = 0.0

    def call(self, operation: Callable[..., list[Action]], *arguments: Any, **named: Any) -> None:
        """An operation without a token, or one whose error is the answer."""
        try:
            done = operation(*arguments, **named)
        except VmbusError:
            return
        self.take_in(done)

    def begin(self, operation: Callable[..., list[Action]], *arguments: Any, **named: Any) -> None:
        """An operation with a token, which must end unless it raises."""
        token = next(self.tokens)
        self.waiting.add(token)
        try:
            done = operation(*arguments, token, **named)
        except VmbusError:
            self.waiting.remove(token)
            return
        self.take_in(done)

    def take_in(self, done: list[Action]) -> None:
        for action in done:
            match action:
                case actions.Done(token=token):
                    assert token in self.waiting, "an operation ended twice"
                    self.waiting.remove(token)
                case actions.Free(relid=relid):
                    assert relid in self.memory, "memory was given back twice"
                    self.memory.remove(relid)
                case actions.Watch(relid=relid):
                    self.watched.append(relid)
                case actions.Post(data=data):
                    wire.decode(data, wire.V6_0, self.client.features)
                    self.posted.append(data)
                case _:
                    pass

    def tell(self, message: msgspec.Struct) -> None:
        self.take_in(self.client.receive(wire.encode(message)))

    def open(self) -> None:
        relid = self.random.choice(RELIDS)
        before = self.client.channels.get(relid)
        had = before is not None and before.has_memory
        token = next(self.tokens)
        self.waiting.add(token)
        vp = self.random.randrange(2)
        try:
            done = self.client.open(
                relid, token, pfns=range(8, 12), downstream=2, target_vp=vp, user_data=b""
            )
        except VmbusError:
            self.waiting.remove(token)
            return
        assert not had
        self.memory.add(relid)
        self.take_in(done)

    def offer(self) -> None:
        relid = self.random.choice(RELIDS)
        index, flags = self.random.choice(((0, 0), (0, 0), (1, 0), (2, 0), (0, 0x2011)))
        instance = UUID(int=self.random.randrange(1, 4))
        self.tell(
            messages.Offer(
                UUID(int=1), instance, 0, 0, flags, 0, bytes(120), index, 0, relid, 0xFF, 0, 1, 0x2000 + relid
            )
        )

    def answer(self) -> None:
        """Something that a host may say about a channel, often what it should."""
        relid = self.random.choice(RELIDS)
        entry = self.client.channels.get(relid)
        handle = entry.gpadl if entry else 0xE1E10
        status = self.random.choice((0, 0, 0, messages.UNSUCCESSFUL))
        self.tell(
            self.random.choice(
                (
                    messages.GpadlCreated(relid, handle, status),
                    messages.GpadlCreated(relid, handle, status),
                    messages.OpenResult(relid, relid, status),
                    messages.OpenResult(relid, relid, status),
                    messages.GpadlTorndown(handle),
                    messages.GpadlTorndown(handle),
                    messages.ModifyChannelResponse(relid, status),
                    messages.Rescind(relid),
                )
            )
        )

    def right_answer(self) -> None:
        """What a good host says next, about whatever waits for it."""
        for relid, entry in self.random.sample(list(self.client.channels.items()), len(self.client.channels)):
            if entry.phase is Phase.CREATING:
                self.tell(messages.GpadlCreated(relid, entry.gpadl, 0))
            elif entry.phase is Phase.OPENING:
                self.tell(messages.OpenResult(relid, relid, 0))
            elif entry.phase is Phase.TEARING:
                self.tell(messages.GpadlTorndown(entry.gpadl))
            else:
                continue
            return

    def connection(self) -> None:
        """Something that a host may say about the connection."""
        supported = self.random.randrange(4) > 0
        self.tell(
            self.random.choice(
                (
                    messages.VersionResponse2(supported, 0, 1, 0xFF & ~0x40),
                    messages.VersionResponse2(supported, 0, 1, 0xFF & ~0x40),
                    messages.UnloadResponse(),
                    messages.AllOffersDelivered(),
                    messages.PauseResponse(),
                    messages.ModifyConnectionResponse(0),
                    messages.TlConnectResult(UUID(int=1), UUID(int=1), messages.CONNECTION_REFUSED),
                )
            )
        )

    def quiet(self) -> None:
        if self.watched:
            self.call(self.client.quiet, self.watched.pop(self.random.randrange(len(self.watched))))

    def unpost(self) -> None:
        if self.posted and self.random.randrange(3) == 0:
            self.take_in(self.client.unposted(self.posted.pop(), ResourceError("no buffers")))

    def nonsense(self) -> None:
        size = self.random.randrange(245)
        data = bytes([self.random.randrange(32), 0, 0, 0]) + self.random.randbytes(size)
        self.take_in(self.client.receive(data))

    def tick(self) -> None:
        self.now += self.random.choice((0.5, 6.0, 101.0))
        self.take_in(self.client.tick(self.now))

    def rare(self) -> None:
        client = self.client
        choice = self.random.randrange(8)
        if choice == 0:
            self.begin(client.unload)
        elif choice == 1:
            self.begin(client.unload, crash=True)
        elif choice == 2:
            self.begin(client.suspend)
        elif choice == 3:
            self.begin(client.pause)
        elif choice == 4:
            self.begin(client.modify_connection, 0, 0)
        elif choice == 5:
            self.begin(client.connect_socket, UUID(int=1), UUID(int=1))
        elif choice == 6:
            self.call(client.drop, self.random.choice(RELIDS))
        else:
            self.tick()

    def step(self) -> None:
        client, relid = self.client, self.random.choice(RELIDS)
        if client.state in (State.DISCONNECTED, State.SUSPENDED):
            self.memory.clear()
            self.begin(client.contact if client.state is State.DISCONNECTED else client.resume)
        elif client.state in (State.CONTACTING, State.UNLOADING) or client._held is not None:
            self.random.choice((self.connection, self.connection, self.tick, self.quiet))()
            self.call(client.unpause)
        elif not client._offers_asked:
            self.call(client.request_offers)
        self.random.choice(
            (
                self.offer,
                self.offer,
                self.open,
                self.open,
                self.answer,
                *(4 * (self.right_answer,)),
                self.quiet,
                self.quiet,
                self.unpost,
                self.nonsense,
                lambda: self.begin(client.close, relid),
                lambda: self.begin(client.retarget, relid, self.random.randrange(2)),
                lambda: self.call(client.release, relid),
                lambda: self.rare() if self.random.randrange(6) == 0 else None,
            )
        )()
        self.check()

    def check(self) -> None:
        client = self.client
        flags = [entry.event_flag for entry in client.channels.values() if entry.event_flag]
        assert len(flags) == len(set(flags)), "two channels have one event flag"
        for relid, entry in client.channels.items():
            assert entry.has_memory == (relid in self.memory)
            for other in entry.subchannels:
                assert client.channels[other].primary == relid
            if entry.primary:
                assert relid in client.channels[entry.primary].subchannels
        assert len(client._keys) <= len(client.channels)
        assert set(client._devices.values()) <= set(client.channels)

    def end(self) -> None:
        self.take_in(self.client.lost(LinkLost("the daemon is gone")))
        assert not self.waiting, "operations that never ended"
        assert not self.client.channels


@pytest.mark.parametrize("seed", range(150))
def test_a_walk_keeps_its_promises(seed: int) -> None:
    """Calls, answers, nonsense and time in any order, in every version, with 6.0's features (case 314)."""
    walk = Walk(seed)
    for _ in range(STEPS):
        walk.step()
    walk.end()
