"""Sessions over sockets lost at any point: nothing lost, nothing twice, order kept, windows respected."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vmbusd.abi import link
from vmbusd.abi.errors import ProtocolError
from vmbusd.abi.session import CONFIRM_EVERY, WINDOW, Session, SessionState


def packet(number: int, text: bytes = b"") -> bytes:
    return link.encode_message(text, where=1, sequence=number)


def filled(count: int) -> Session:
    session = Session()
    for _ in range(count):
        session.post(packet(session.number()))
    return session


class End:
    """One end: its session, what its application said and heard, and the packets on their way to it."""

    def __init__(self) -> None:
        self.session = Session()
        self.said = 0
        self.heard: list[int] = []
        self.coming: deque[bytes] = deque()

    def say(self) -> None:
        self.said += 1
        self.session.stamp_and_post(link.encode_message(self.said.to_bytes(4, "little"), where=0))

    def deliver(self) -> None:
        """Take the next packet that is on its way to us."""
        got = self.coming.popleft()
        header = link.decode_header(got)
        if header.kind == link.Kind.CONFIRM:
            body = link.decode_body(header, got)
            assert isinstance(body, link.Confirm)
            self.session.take_confirmation(body.received)
        elif self.session.take(header.sequence):
            self.heard.append(int.from_bytes(got[link.HEADER.size :], "little"))

    def confirm(self, other: "End", *, idle: bool) -> None:
        if (number := self.session.confirmation(idle=idle)) is not None:
            self.session.told(number)
            other.coming.append(link.encode(link.Confirm(number)))


class Lossy(RuleBasedStateMachine):
    """A client, a daemon, and a socket between them that may be lost at any point."""

    def __init__(self) -> None:
        super().__init__()
        self.client, self.daemon = End(), End()
        self.linked = True

    def other(self, end: End) -> End:
        return self.daemon if end is self.client else self.client

    @rule(end=st.sampled_from(["client", "daemon"]), count=st.integers(1, 100))
    def say(self, end: str, count: int) -> None:
        for _ in range(count):
            getattr(self, end).say()

    @precondition(lambda self: self.linked)
    @rule(end=st.sampled_from(["client", "daemon"]), count=st.integers(1, 100), at_once=st.booleans())
    def send(self, end: str, count: int, at_once: bool) -> None:
        mine: End = getattr(self, end)
        if at_once:
            self.other(mine).coming.extend(mine.session.due())
            return
        for _ in range(count):
            if (got := mine.session.peek()) is None:
                return
            mine.session.shift()
            self.other(mine).coming.append(got)

    @rule(end=st.sampled_from(["client", "daemon"]), count=st.integers(1, 100), idle=st.booleans())
    def receive(self, end: str, count: int, idle: bool) -> None:
        mine: End = getattr(self, end)
        for _ in range(min(count, len(mine.coming))):
            mine.deliver()
            if self.linked:
                mine.confirm(self.other(mine), idle=False)
        if idle and self.linked:
            mine.confirm(self.other(mine), idle=True)

    @precondition(lambda self: self.linked)
    @rule(to_client=st.integers(0, 80), to_daemon=st.integers(0, 80))
    def lose(self, to_client: int, to_daemon: int) -> None:
        """The socket goes; a part of what was on its way can still be read, in order."""
        for end, count in ((self.client, to_client), (self.daemon, to_daemon)):
            while len(end.coming) > count:
                end.coming.pop()
        self.linked = False

    @precondition(lambda self: not self.linked)
    @rule(welcome_arrives=st.booleans())
    def reconnect(self, welcome_arrives: bool) -> None:
        """Both read the old socket to its end; then a hello and, perhaps, a welcome."""
        for end in (self.client, self.daemon):
            while end.coming:
                end.deliver()
        self.daemon.session.resume(self.client.session.received)
        if welcome_arrives:
            self.client.session.resume(self.daemon.session.received)
            self.linked = True

    @rule(end=st.sampled_from(["client", "daemon"]))
    def restart(self, end: str) -> None:
        """The process is another one, with what the old one had written down; its socket is gone."""
        if self.linked:
            self.lose(0, 0)
        mine: End = getattr(self, end)
        mine.coming.clear()
        mine.session = Session.restore(mine.session.save())

    @invariant()
    def nothing_is_lost_doubled_or_out_of_order(self) -> None:
        for end in (self.client, self.daemon):
            assert end.heard == list(range(1, len(end.heard) + 1))
            assert len(end.heard) <= self.other(end).said

    @invariant()
    def the_window_is_respected(self) -> None:
        for end in (self.client, self.daemon):
            session = end.session
            assert session.sent - session.confirmed <= WINDOW
            assert session.queued == sum(map(len, session.save().packets))

    def teardown(self) -> None:
        """With a socket that stays, both ends come to have heard everything."""
        if not self.linked:
            self.reconnect(True)
        while any(end.coming or end.session.may_send for end in (self.client, self.daemon)):
            for name in ("client", "daemon"):
                self.send(name, 100, True)
                self.receive(name, 1000, False)
        for end in (self.client, self.daemon):
            assert len(end.heard) == self.other(end).said
            assert end.session.received - end.session._told < CONFIRM_EVERY


TestLossy = Lossy.TestCase


def test_a_window_is_sent_and_no_more() -> None:
    """What is more than a window waits for a confirmation, in order."""
    session = filled(WINDOW + 2)
    first = [link.decode_header(each).sequence for each in session.due()]
    assert (first, session.waiting, session.peek()) == (list(range(1, WINDOW + 1)), 2, None)

    session.take_confirmation(1)

    assert [link.decode_header(each).sequence for each in session.due()] == [WINDOW + 1]
    assert list(session.due()) == []


def test_a_peer_that_never_waits_is_found_out() -> None:
    """More than a window beyond what was confirmed is the sender's fault."""
    session = Session()
    for number in range(1, WINDOW + 1):
        assert session.take(number)
    with pytest.raises(ProtocolError, match=f"packet {WINDOW + 1} came while 0 was the last one confirmed"):
        session.take(WINDOW + 1)
    assert session.received == WINDOW


@pytest.mark.parametrize(
    ("number", "text"), [(0, "without a number"), (3, "packet 3 came after 1"), (2**64 - 1, "came after 1")]
)
def test_a_gap_is_the_peers_fault(number: int, text: str) -> None:
    """A number that leaves one out, or none at all, is refused; an old one is dropped."""
    session = Session()
    assert session.take(1)
    with pytest.raises(ProtocolError, match=text):
        session.take(number)
    assert not session.take(1)
    assert session.received == 1


def test_only_what_was_sent_can_be_confirmed() -> None:
    """A confirmation beyond the last packet sent is refused; an old one changes nothing."""
    session = filled(3)
    session.shift()
    with pytest.raises(ProtocolError, match="packet 2 is confirmed, 1 is the last one sent"):
        session.take_confirmation(2)
    session.take_confirmation(1)
    session.take_confirmation(0)
    assert (session.confirmed, session.waiting) == (1, 2)


@pytest.mark.parametrize("received", [1, 6, 2**64 - 1])
def test_a_resume_must_fit(received: int) -> None:
    """A peer that lacks what is gone, or has what never was, cannot be continued with."""
    session = filled(5)
    session.due()
    session.take_confirmation(2)
    with pytest.raises(ProtocolError, match="between 2 and 5 is possible"):
        session.resume(received)
    assert (session.confirmed, session.sent) == (2, 5)


@given(
    st.builds(
        SessionState,
        st.integers(-2, 5),
        st.integers(-2, 5),
        st.lists(st.one_of(st.binary(max_size=30), st.integers(0, 8).map(packet))).map(tuple),
    )
)
def test_restoring_is_all_or_refused(state: SessionState) -> None:
    """Data that no session saved raises ProtocolError; the rest comes back exactly."""
    try:
        session = Session.restore(state)
    except ProtocolError:
        return
    assert session.save() == state
