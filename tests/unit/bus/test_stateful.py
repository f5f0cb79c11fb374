"""Any order of guest bytes, device answers, claims, deaths: the rules hold and nothing is left at the end.

`Script` checks every effect as it is carried out; the machine here only chooses what happens next.
"""

from uuid import UUID

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.bus.script import CONTACT, FAILURE, VPS, Script, header, range_words
from vmbusd.abi import device_link, gpadl, messages, wire
from vmbusd.abi.layout import NO_TARGET
from vmbusd.bus.channels import State

RELIDS = st.sampled_from([1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 0])
"""Mostly few channels, so that much happens to each."""
SELDOM = st.sampled_from([False] * 4 + [True])
HANDLES = st.integers(0, 2)
VPS_NAMED = st.sampled_from([0, 1, 2, 3, 4, NO_TARGET])
STATUSES = st.sampled_from([0, 0, 0, FAILURE])
OFFER_IDS = st.integers(1, 4)
MOST_LINKS = 6


ENDS = [
    CONTACT,
    messages.InitiateContact(wire.V6_0, 0, 2, 0, 0, 0, 0),
    messages.Unload(),
    messages.RequestOffers(),
    None,
]


def handle_of(relid: int, number: int) -> int:
    """Handles differ between channels, so that a GPADL_TORNDOWN says whose it is."""
    return relid * 16 + number


class BusMachine(RuleBasedStateMachine):
    """A hostile guest, careless hosts, and a server that reports whatever it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.script = Script()
        self.script.links = {0, 1}
        self.links_made = 2
        self.offline: set[int] = set()

    @initialize(opened=st.integers(0, 3))
    def begin(self, opened: int) -> None:
        """Three channels of two hosts, a guest that knows them, and some of them open."""
        for host, offer_id in ((0, 1), (0, 2), (1, 1)):
            guid = UUID(int=host * 2 + offer_id)
            self.script.host(device_link.Offer(offer_id, guid, guid), host)
        self.connect()
        for relid in range(1, opened + 1):
            self.go_on(relid, 5)

    # Guest

    @precondition(lambda self: self.script.bus.state == "disconnected")
    @rule()
    def connect(self) -> None:
        self.script.guest(CONTACT)
        self.script.guest(messages.RequestOffers())

    @rule(really=SELDOM, message=st.sampled_from(ENDS))
    def end(self, really: bool, message: msgspec.Struct | None) -> None:
        """The guest leaves, begins anew, or asks for what it has."""
        if really and message is None:
            self.script.guest_gone()
        elif really and message is not None:
            self.script.guest(message)

    @rule(relid=RELIDS, number=HANDLES, pages=st.sampled_from([1, 2, 4, 30]), parts=st.integers(1, 2))
    def create_gpadl(self, relid: int, number: int, pages: int, parts: int) -> None:
        for part in gpadl.split(relid, handle_of(relid, number), [gpadl.whole_pages(range(pages))])[:parts]:
            self.script.guest(part)

    @rule(relid=RELIDS, number=HANDLES, count=st.integers(0, 2), size=st.sampled_from([0, 4096, 8200]))
    def create_bad_gpadl(self, relid: int, number: int, count: int, size: int) -> None:
        self.script.guest(header(relid, handle_of(relid, number), range_words(size, 8, 2), count=count))

    @rule(relid=RELIDS, number=HANDLES)
    def send_body(self, relid: int, number: int) -> None:
        self.script.guest(messages.GpadlBody(0, handle_of(relid, number), bytes(224)))

    @rule(relid=RELIDS, owner=RELIDS, number=HANDLES)
    def tear_gpadl_down(self, relid: int, owner: int, number: int) -> None:
        self.script.guest(messages.GpadlTeardown(relid, handle_of(owner, number)))

    @rule(relid=RELIDS, number=HANDLES, vp=VPS_NAMED, offset=st.integers(0, 4))
    def open(self, relid: int, number: int, vp: int, offset: int) -> None:
        self.script.guest(messages.Open(relid, 7, handle_of(relid, number), vp, offset, bytes(120)))

    def go_on(self, relid: int, choice: int) -> None:
        """What a guest might really do next with this channel, so that most runs have open channels."""
        slot = self.script.table.get(relid)
        state = State.REMOVED if slot is None or slot.state is None else State(slot.state)
        ring = handle_of(relid, 0)
        good_open = messages.Open(relid, 7, ring, choice % 2, 2, bytes(120))
        match state, choice:
            case State.CLOSED, 0:
                self.release(relid)
            case State.CLOSED, _:
                self.create_gpadl(relid, 0, 4, 1)
                self.answer_all(True)
                self.script.guest(good_open)
                if choice > 1:
                    self.answer_all(True)
            case State.OPEN, 0 | 1:
                self.script.guest(messages.Close(relid))
                self.script.guest(messages.GpadlTeardown(relid, ring))
            case State.OPEN, 2 | 3:
                self.script.guest(messages.GpadlTeardown(relid, ring))
            case State.OPEN, 4:
                self.script.guest(messages.Close(relid))
            case State.OPEN, _:
                self.modify(relid, choice % 4)
            case State.CLOSING, 0 | 1 | 2:
                self.script.guest(good_open)
            case State.CLOSING | State.REVOKED | State.REOFFERED, 3 | 4:
                self.release(relid)
            case State.REVOKED, _:
                self.script.guest(messages.GpadlTeardown(relid, ring))

    @rule(relid=RELIDS, choices=st.lists(st.integers(0, 5), min_size=1, max_size=3))
    def go_on_with_one(self, relid: int, choices: list[int]) -> None:
        for choice in choices:
            self.go_on(relid, choice)

    @rule(choices=st.tuples(*[st.integers(0, 5)] * 3))
    def go_on_with_three(self, choices: tuple[int, int, int]) -> None:
        for relid, choice in enumerate(choices, 1):
            self.go_on(relid, choice)

    @rule(relid=RELIDS)
    def close(self, relid: int) -> None:
        self.script.guest(messages.Close(relid))

    @rule(relid=RELIDS)
    def release(self, relid: int) -> None:
        self.script.guest(messages.RelidReleased(relid))

    @rule(relid=RELIDS, vp=VPS_NAMED)
    def modify(self, relid: int, vp: int) -> None:
        self.script.guest(messages.ModifyChannel(relid, vp))

    @rule(number=st.integers(0, 31), rest=st.binary(max_size=240), connection_id=st.integers(0, 5))
    def send_bytes(self, number: int, rest: bytes, connection_id: int) -> None:
        self.script.guest_bytes(number.to_bytes(4, "little") + rest, connection_id)

    # Hosts

    @precondition(lambda self: self.script.links)
    @rule(data=st.data(), offer_id=OFFER_IDS, interface=st.integers(1, 3), index=st.integers(0, 1))
    def offer(self, data: st.DataObject, offer_id: int, interface: int, index: int) -> None:
        host = data.draw(st.sampled_from(sorted(self.script.links)))
        guid = UUID(int=interface)
        self.script.host(device_link.Offer(offer_id, guid, guid, subchannel_index=index), host)

    @precondition(lambda self: self.script.offers)
    @rule(data=st.data(), again=st.booleans())
    def revoke(self, data: st.DataObject, again: bool) -> None:
        host, offer_id = data.draw(st.sampled_from(sorted(self.script.offers)))
        offer = self.script.offers[host, offer_id]
        self.script.host(device_link.Revoke(offer_id), host)
        self.script.host(device_link.Revoke(offer_id), host)
        if again:
            self.script.host(offer, data.draw(st.sampled_from(sorted(self.script.links))))

    @precondition(lambda self: self.script.asked)
    @rule(data=st.data(), status=STATUSES)
    def answer(self, data: st.DataObject, status: int) -> None:
        question = data.draw(st.sampled_from(sorted(self.script.asked)))
        self.answer_one(question, status)

    @rule(agree=st.booleans())
    def answer_all(self, agree: bool) -> None:
        for question in sorted(self.script.asked):
            if question in self.script.asked:
                self.answer_one(question, 0 if agree else FAILURE)

    @precondition(lambda self: self.script.links)
    @rule(data=st.data(), offer_id=OFFER_IDS, generation=st.integers(0, 3), number=st.integers(0, 90))
    def answer_nonsense(self, data: st.DataObject, offer_id: int, generation: int, number: int) -> None:
        host = data.draw(st.sampled_from(sorted(self.script.links)))
        answers: list[device_link.FromHost] = [
            device_link.Opened(offer_id, generation, 0),
            device_link.Closed(offer_id, generation),
            device_link.Retargeted(offer_id, generation, number % VPS, 0),
            device_link.GpadlAccepted(offer_id, number, 0),
            device_link.GpadlTornDown(offer_id, number),
        ]
        self.script.host(data.draw(st.sampled_from(answers)), host)

    @precondition(lambda self: self.script.links)
    @rule(data=st.data(), really=SELDOM)
    def lose_host(self, data: st.DataObject, really: bool) -> None:
        if really:
            self.script.host_gone(data.draw(st.sampled_from(sorted(self.script.links))))

    @precondition(lambda self: self.script.links | self.script.ghosts)
    @rule(data=st.data(), really=SELDOM)
    def kill_host(self, data: st.DataObject, really: bool) -> None:
        if really:
            self.script.host_dead(data.draw(st.sampled_from(sorted(self.script.links | self.script.ghosts))))

    @precondition(lambda self: self.links_made < MOST_LINKS)
    @rule()
    def attach_host(self) -> None:
        self.script.links.add(self.links_made)
        self.links_made += 1

    # Server

    @precondition(lambda self: self.script.watched)
    @rule(data=st.data())
    def claim_free(self, data: st.DataObject) -> None:
        self.script.claim_free(data.draw(st.sampled_from(sorted(self.script.watched))))

    @rule(flag=st.integers(0, 6), generation=st.integers(0, 9))
    def report_claim_nobody_watches(self, flag: int, generation: int) -> None:
        if self.script.watched.get(flag) != generation:
            (refused,) = self.script.bus.claim_free(flag, generation)
            assert type(refused).__name__ == "Refused"

    @precondition(lambda self: len(self.offline) < VPS - 1)
    @rule(data=st.data())
    def vp_offline(self, data: st.DataObject) -> None:
        online = sorted(set(range(VPS)) - self.offline)
        vp = data.draw(st.sampled_from(online))
        self.offline.add(vp)
        self.script.vp_offline(vp, data.draw(st.sampled_from([other for other in online if other != vp])))

    @precondition(lambda self: self.offline)
    @rule(data=st.data())
    def vp_online(self, data: st.DataObject) -> None:
        vp = data.draw(st.sampled_from(sorted(self.offline)))
        self.offline.discard(vp)
        self.script.vp_online(vp)

    # What must hold

    @invariant()
    def the_table_is_what_the_bus_thinks(self) -> None:
        """Every relid is held by one channel, and its record says what the bus would say."""
        views = {view.relid: view for view in self.script.bus.channels() if view.relid}
        assert len(views) == sum(1 for view in self.script.bus.channels() if view.relid)
        assert views.keys() == self.script.table.keys()
        assert self.script.bus.statistics().relids == len(views)
        for relid, slot in self.script.table.items():
            assert slot.state is not None
            assert bool(slot.open) == (views[relid].state in ("opening", "open"))
            if slot.open and slot.target != NO_TARGET:
                assert slot.target not in self.offline, "a channel points at a VP that nobody serves"
        if self.script.bus.state == "disconnected":
            assert not self.script.table

    def answer_one(self, question: tuple[int, tuple[str, int, int]], status: int) -> None:
        """What a well-behaved device says."""
        host, (kind, offer_id, number) = question
        vp = self.script.retarget_to.get(question, 0)
        answers: dict[str, device_link.FromHost] = {
            "Open": device_link.Opened(offer_id, number, status),
            "Close": device_link.Closed(offer_id, number),
            "Retarget": device_link.Retargeted(offer_id, number, vp, status),
            "Gpadl": device_link.GpadlAccepted(offer_id, number, status),
            "Teardown": device_link.GpadlTornDown(offer_id, number),
        }
        self.script.host(answers[kind], host)

    def settle(self) -> None:
        """Everybody does what they owe."""
        while self.script.asked or self.script.watched or self.script.ghosts:
            self.answer_all(True)
            for flag in sorted(self.script.watched):
                self.script.claim_free(flag)
            for host in sorted(self.script.ghosts):
                self.script.host_dead(host)

    def teardown(self) -> None:
        """Once everybody did what they owe every request is answered; after the guest left nothing is."""
        script = self.script
        self.settle()
        living = script.known - script.rescinded
        if script.bus.state == "connected":
            for (kind, relid, _), owed in script.owed.items():
                assert not (owed and relid in living and kind in ("open", "modify")), (
                    f"{kind} of {relid} unanswered"
                )
            waiting = sum(owed for (kind, _, _), owed in script.owed.items() if kind == "gpadl")
            assert waiting == script.bus.statistics().unfinished_gpadls
        script.guest_gone()
        self.settle()
        statistics = script.bus.statistics()
        assert script.bus.state == "disconnected"
        assert not script.table
        assert (statistics.relids, statistics.gpadls, statistics.gpadl_pages) == (0, 0, 0)
        assert statistics.unfinished_gpadls == 0
        for host in sorted(script.links):
            script.host_dead(host)
        assert script.bus.channels() == []


TestBus = BusMachine.TestCase
TestBus.settings = settings(
    max_examples=300,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
