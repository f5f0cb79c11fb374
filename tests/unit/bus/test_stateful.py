"""Any order of guest bytes, device answers, claims, deaths: the rules hold and nothing is left at the end.

`Script` checks every effect as it is carried out; the machine here only chooses what happens next.
"""

from uuid import UUID

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.bus.script import FAILURE, RAM_PAGES, VPS, Script, contact, header, range_words
from vmbusd.abi import device_link, gpadl, messages, wire
from vmbusd.abi.layout import NO_TARGET
from vmbusd.bus.bus import Bus
from vmbusd.bus.options import VERSIONS, BusOptions

RELIDS = st.integers(0, 5)
HANDLES = st.integers(0, 2)
VPS_NAMED = st.sampled_from([0, 1, 2, 3, 4, NO_TARGET])
STATUSES = st.sampled_from([0, 0, 0, FAILURE])
OFFER_IDS = st.integers(1, 4)
MOST_LINKS = 6
RARELY = st.sampled_from([False] * 7 + [True])
"""What ends everything happens seldom: most of a run is to be spent with open channels."""
SIGNALS = 0x03
OPTIONS = BusOptions(guest_pages=True)
FEATURES = st.sampled_from([0, 0x01, 0x20, 0x25])
PAGES = st.sampled_from([(0, 0), (0, 0), (0x1000, 0x2000)])


def handle_of(relid: int, number: int) -> int:
    """Handles differ between channels, so that a GPADL_TORNDOWN says whose it is."""
    return relid * 16 + number


class BusMachine(RuleBasedStateMachine):
    """A hostile guest, careless hosts, and a server that reports whatever it sees."""

    def new_bus(self) -> Bus:
        """What plays the bus."""
        return Bus(vps=VPS, ram_pages=RAM_PAGES, options=OPTIONS)

    def __init__(self) -> None:
        super().__init__()
        self.script = Script(OPTIONS)
        self.script.bus = self.new_bus()
        self.script.links = {0, 1}
        self.links_made = 2
        self.time = 0.0
        self.offline: set[int] = set()

    @initialize(version=st.sampled_from([wire.V5_2, wire.V5_3, wire.V6_0]), features=FEATURES, pages=PAGES)
    def begin(self, version: int, features: int, pages: tuple[int, int]) -> None:
        """Two devices and a guest that has seen them."""
        for number in (1, 2):
            guid = UUID(int=number)
            flags = device_link.OfferFlag.MONITORED
            self.script.host(device_link.Offer(number, guid, guid, flags=flags, max_subchannels=2))
        self.connect(version, features, pages)

    # Guest

    def guest(self, message: msgspec.Struct, connection_id: int = 1) -> None:
        """What waits would be heard later; here the guest waits instead."""
        if self.script.bus.accepting:
            self.script.guest(message, connection_id)

    @rule(
        connection_id=st.sampled_from([1, 1, 4]),
        version=st.sampled_from([*VERSIONS, 0x00060001]),
        features=FEATURES,
        pages=PAGES,
        now=RARELY,
    )
    def contact(
        self, connection_id: int, version: int, features: int, pages: tuple[int, int], now: bool
    ) -> None:
        if now:
            self.guest(contact(version, features=features, pages=pages), connection_id)

    @rule(version=st.sampled_from([wire.V5_2, wire.V5_3, wire.V6_0]), features=FEATURES, pages=PAGES)
    def connect(self, version: int, features: int, pages: tuple[int, int]) -> None:
        if self.script.bus.state == "disconnected":
            self.guest(contact(version, features=features, pages=pages))
            self.answer_pages(True)
        self.guest(messages.RequestOffers())

    @rule(ok=st.booleans())
    def answer_pages(self, ok: bool) -> None:
        self.script.pages(ok)

    @rule(relid=RELIDS, number=HANDLES, pages=st.sampled_from([1, 2, 4, 30]), parts=st.integers(1, 2))
    def create_gpadl(self, relid: int, number: int, pages: int, parts: int) -> None:
        for part in gpadl.split(relid, handle_of(relid, number), [gpadl.whole_pages(range(pages))])[:parts]:
            self.guest(part)

    @rule(relid=RELIDS, number=HANDLES, count=st.integers(0, 2), size=st.sampled_from([0, 4096, 8200]))
    def create_bad_gpadl(self, relid: int, number: int, count: int, size: int) -> None:
        self.guest(header(relid, handle_of(relid, number), range_words(size, 8, 2), count=count))

    @rule(relid=RELIDS, number=HANDLES)
    def send_body(self, relid: int, number: int) -> None:
        self.guest(messages.GpadlBody(0, handle_of(relid, number), bytes(224)))

    @rule(relid=RELIDS, owner=RELIDS, number=HANDLES)
    def tear_gpadl_down(self, relid: int, owner: int, number: int) -> None:
        self.guest(messages.GpadlTeardown(relid, handle_of(owner, number)))

    @rule(relid=RELIDS, number=HANDLES, vp=VPS_NAMED, offset=st.integers(0, 4))
    def open(self, relid: int, number: int, vp: int, offset: int, flag: int = 0) -> None:
        plain = relid, 7, handle_of(relid, number), vp, offset, bytes(120)
        if self.script.bus.features & SIGNALS:
            self.guest(messages.Open2(*plain, 0, flag, 1))
        else:
            self.guest(messages.Open(*plain))

    @precondition(lambda self: any(view.state == "closed" for view in self.script.bus.channels()))
    @rule(
        data=st.data(),
        vp=st.sampled_from([0, 1, NO_TARGET]),
        flag=st.integers(0, 4),
        agree=st.booleans(),
    )
    def open_well(self, data: st.DataObject, vp: int, flag: int, agree: bool) -> None:
        """The steps of a guest that does it right, so that most runs have open channels."""
        closed = [view.relid for view in self.script.bus.channels() if view.state == "closed"]
        relid = data.draw(st.sampled_from(closed))
        self.create_gpadl(relid, 0, 4, 1)
        self.answer_all(True)
        self.open(relid, 0, vp, 2, flag)
        if agree:
            self.answer_all(True)

    @rule(relid=RELIDS)
    def close(self, relid: int) -> None:
        self.guest(messages.Close(relid))

    @rule(relid=RELIDS)
    def release(self, relid: int) -> None:
        self.guest(messages.RelidReleased(relid))

    @rule(relid=RELIDS, vp=VPS_NAMED)
    def modify(self, relid: int, vp: int) -> None:
        self.guest(messages.ModifyChannel(relid, vp))

    @rule(relid=RELIDS, vp=VPS_NAMED)
    def order_retarget(self, relid: int, vp: int) -> None:
        self.script.order("retarget", relid, vp)

    @rule(relid=RELIDS, now=RARELY)
    def order_rescind(self, relid: int, now: bool) -> None:
        if now:
            self.script.order("rescind", relid)

    @rule(now=RARELY)
    def unload(self, now: bool) -> None:
        if now:
            self.guest(messages.Unload())

    @rule(relid=RELIDS, vp=VPS_NAMED, sint=st.integers(0, 3))
    def open_reserved(self, relid: int, vp: int, sint: int) -> None:
        self.guest(messages.OpenReserved(relid, vp, sint, handle_of(relid, 0), 2))

    @rule(relid=RELIDS, vp=VPS_NAMED)
    def close_reserved(self, relid: int, vp: int) -> None:
        self.guest(messages.CloseReserved(relid, vp, 2))

    @rule(what=st.sampled_from([messages.Pause(), messages.Resume(), messages.Resume()]))
    def pause(self, what: msgspec.Struct) -> None:
        self.guest(what)

    @rule(pages=PAGES)
    def modify_connection(self, pages: tuple[int, int]) -> None:
        self.guest(messages.ModifyConnection(*pages))

    @rule(number=st.integers(1, 3))
    def connect_socket(self, number: int) -> None:
        self.guest(messages.TlConnect(UUID(int=number), UUID(int=0x50)))

    @rule(now=RARELY)
    def guest_gone(self, now: bool) -> None:
        if now:
            self.script.guest_gone()

    @rule(number=st.integers(0, 31), rest=st.binary(max_size=240), connection_id=st.integers(0, 5))
    def send_bytes(self, number: int, rest: bytes, connection_id: int) -> None:
        if self.script.bus.accepting:
            self.script.guest_bytes(number.to_bytes(4, "little") + rest, connection_id)

    # Hosts

    @precondition(lambda self: self.script.links)
    @rule(data=st.data(), offer_id=OFFER_IDS, interface=st.integers(1, 3), index=st.integers(0, 1))
    def offer(self, data: st.DataObject, offer_id: int, interface: int, index: int) -> None:
        host = data.draw(st.sampled_from(sorted(self.script.links)))
        guid = UUID(int=interface)
        flags = device_link.OfferFlag.MONITORED
        offer = device_link.Offer(
            offer_id, guid, guid, subchannel_index=index, flags=flags, max_subchannels=2
        )
        self.script.host(offer, host)

    @precondition(lambda self: self.script.links)
    @rule(data=st.data(), offer_id=OFFER_IDS, count=st.integers(0, 3))
    def enable_subchannels(self, data: st.DataObject, offer_id: int, count: int) -> None:
        host = data.draw(st.sampled_from(sorted(self.script.links)))
        open_in = {view.generation for view in self.script.bus.channels()} or {0}
        generation = data.draw(st.sampled_from(sorted(open_in)))
        self.script.host(device_link.EnableSubchannels(offer_id, generation, count, 10 * offer_id), host)

    @precondition(lambda self: self.script.links)
    @rule(data=st.data(), request=st.integers(0, 6), status=STATUSES, enable=st.booleans())
    def serve_sockets(self, data: st.DataObject, request: int, status: int, enable: bool) -> None:
        host = data.draw(st.sampled_from(sorted(self.script.links)))
        if request:
            self.script.host(device_link.SocketAnswer(request, status, 70 + request), host)
        else:
            self.script.host(device_link.ProvideSockets(int(enable)), host)

    @precondition(lambda self: self.script.links)
    @rule(data=st.data(), offer_id=OFFER_IDS)
    def revoke(self, data: st.DataObject, offer_id: int) -> None:
        host = data.draw(st.sampled_from(sorted(self.script.links)))
        self.script.host(device_link.Revoke(offer_id), host)

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
    @rule(data=st.data(), now=RARELY)
    def lose_host(self, data: st.DataObject, now: bool) -> None:
        if now:
            self.script.host_gone(data.draw(st.sampled_from(sorted(self.script.links))))

    @precondition(lambda self: self.script.links | self.script.ghosts)
    @rule(data=st.data(), now=RARELY)
    def kill_host(self, data: st.DataObject, now: bool) -> None:
        if now:
            self.script.host_dead(data.draw(st.sampled_from(sorted(self.script.links | self.script.ghosts))))

    @precondition(lambda self: self.links_made < MOST_LINKS)
    @rule()
    def attach_host(self) -> None:
        self.script.links.add(self.links_made)
        self.links_made += 1

    # Server

    @rule(seconds=st.sampled_from([0.0, 1.0, 6.0]))
    def tick(self, seconds: float) -> None:
        self.time += seconds
        self.script.tick(self.time)
        due = self.script.bus.next_deadline
        assert due is None or due > self.time

    @rule(now=RARELY)
    def reset(self, now: bool) -> None:
        if now:
            self.script.reset()

    @rule(ready=st.sampled_from([False, True, True]))
    def output(self, ready: bool) -> None:
        self.script.output(ready)

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
        flags = {view.flag for view in views.values() if view.flag}
        assert flags == self.script.table.keys()
        assert self.script.bus.statistics().relids == len(views)
        for slot in self.script.table.values():
            assert slot.state is not None
            assert bool(slot.open) == (views[slot.fill.relid].state in ("opening", "open"))
            if slot.open and slot.target != NO_TARGET:
                assert slot.target not in self.offline, "a channel points at a VP that nobody serves"
        if self.script.bus.state == "disconnected":
            assert views.keys() <= self.script.kept

    def answer_one(self, question: tuple[int, tuple[str, int, int]], status: int) -> None:
        """What a well-behaved device says."""
        host, (kind, offer_id, number) = question
        if kind == "Withdraw":
            self.script.host(device_link.Revoke(offer_id), host)
            return
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
        self.script.output(True)
        self.script.pages()
        self.guest(messages.Resume())
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
        script.reset()
        self.settle()
        statistics = script.bus.statistics()
        assert script.bus.state == "disconnected"
        assert not script.table
        assert (statistics.relids, statistics.gpadls, statistics.gpadl_pages) == (0, 0, 0)
        assert statistics.unfinished_gpadls == 0
        for host in sorted(script.links):
            script.host_dead(host)
        assert script.bus.channels() == []


def many(examples: int) -> settings:
    """So many runs, each as long as it takes."""
    return settings(
        max_examples=examples,
        stateful_step_count=60,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


TestBus = BusMachine.TestCase
TestBus.settings = many(150)
