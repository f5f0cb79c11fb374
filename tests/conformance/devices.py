"""The hosts of a script: which offers they made, which relids those got, which questions they still owe.

Scripts speak of relids, the device protocol of offer ids; the guest's OFFER_CHANNEL tells which is which.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import msgspec

from tests.conformance.script import Fields, Place
from vmbusd.abi import device_link as device
from vmbusd.abi import messages

Key = tuple[UUID, UUID, int]


@dataclass
class Offered:
    """One offer of one host. `relid` is 0 until the guest hears of it."""

    host: int
    id: int
    key: Key
    relid: int = 0
    generation: int = 0
    vp: int = 0
    gpadl: int = 0
    wanted: tuple[int, Place] | None = None
    """The relid that the script says it gets, and where it says so."""


ANSWERS: Final[dict[type[msgspec.Struct], Callable[[Any, int], msgspec.Struct]]] = {
    device.Open: lambda asked, status: device.Opened(asked.offer_id, asked.generation, status),
    device.Close: lambda asked, _: device.Closed(asked.offer_id, asked.generation),
    device.Gpadl: lambda asked, status: device.GpadlAccepted(asked.offer_id, asked.gpadl, status),
    device.Teardown: lambda asked, _: device.GpadlTornDown(asked.offer_id, asked.gpadl),
    device.Retarget: lambda asked, status: device.Retargeted(
        asked.offer_id, asked.generation, asked.vp, status
    ),
    device.Withdraw: lambda asked, _: device.Revoke(asked.offer_id),
}
"""What `done` answers to each question."""


@dataclass
class Hosts:
    """All hosts of a script."""

    offers: list[Offered] = field(default_factory=list)
    questions: list[tuple[int, msgspec.Struct]] = field(default_factory=list)
    next_id: int = 1
    open_ids: dict[object, object] = field(default_factory=dict)
    """Relid -> the open id of the guest's last open."""

    def find(self, host: int, fields: Fields) -> Offered | None:
        """The offer that `id=` or `relid=` names, else the newest of the host."""
        mine = [offer for offer in self.offers if offer.host == host]
        if "offer_id" in fields or "id" in fields:
            wanted = fields.get("offer_id", fields.get("id"))
            mine = [offer for offer in mine if offer.id == wanted]
        elif "relid" in fields:
            mine = [offer for offer in mine if offer.relid == fields["relid"]]
        return mine[-1] if mine else None

    def relid_of(self, host: int) -> Callable[[msgspec.Struct], int]:
        """The relid of the channel a device message is about, 0 if the guest knows none."""

        def relid(message: msgspec.Struct) -> int:
            found = self.find(host, {"offer_id": getattr(message, "offer_id", 0)})
            return found.relid if found else 0

        return relid

    def defaults(self, host: int, fields: Fields) -> Fields:
        """The usual values of a message from a host about one of its offers."""
        offer = self.find(host, fields)
        usual: Fields = {"enable": 1, "count": 1, "first_offer_id": self.next_id}
        if offer is None:
            return {**usual, "offer_id": fields.get("relid", self.next_id)}
        return {
            **usual,
            "offer_id": offer.id,
            "generation": offer.generation,
            "vp": offer.vp,
            "gpadl": offer.gpadl,
        }

    def new_offer(self, fields: Fields) -> Fields:
        """The usual values of an offer: the next id, interface 1, an instance of its own."""
        return {
            "offer_id": self.next_id,
            "interface_id": UUID(int=1),
            "instance_id": UUID(int=int(str(fields.get("offer_id", self.next_id)))),
        }

    def said(self, host: int, message: msgspec.Struct) -> None:
        """Remember what a host just said."""
        if isinstance(message, device.Offer):
            key = (message.interface_id, message.instance_id, message.subchannel_index)
            self.offers.append(Offered(host, message.offer_id, key))
            self.next_id = max(self.next_id, message.offer_id + 1)
            for old in self.offers[:-1]:
                if old.key == key and old.relid:
                    self.offers[-1].relid = old.relid
        elif isinstance(message, device.EnableSubchannels):
            primary = self.find(host, {"offer_id": message.offer_id})
            if primary is not None:
                for index in range(1, message.count + 1):
                    identity = message.first_offer_id + index - 1
                    key = (primary.key[0], primary.key[1], index)
                    if not any(offer.key == key for offer in self.offers):
                        self.offers.append(Offered(host, identity, key))
                self.next_id = max(self.next_id, message.first_offer_id + message.count)
        elif isinstance(message, device.SocketAnswer):
            asked = next((q for h, q in self.questions if h == host and self._is_asked(q, message)), None)
            if isinstance(asked, device.SocketConnect) and not message.status:
                self.offers.append(Offered(host, message.offer_id, (asked.service_id, asked.endpoint_id, 0)))
                self.next_id = max(self.next_id, message.offer_id + 1)
        self.questions = [(h, q) for h, q in self.questions if h != host or not self._answers(q, message)]

    @staticmethod
    def _is_asked(asked: msgspec.Struct, answer: device.SocketAnswer) -> bool:
        return isinstance(asked, device.SocketConnect) and asked.request_id == answer.request_id

    def _answers(self, asked: msgspec.Struct, message: msgspec.Struct) -> bool:
        if isinstance(message, device.SocketAnswer):
            return self._is_asked(asked, message)
        make = ANSWERS.get(type(asked))
        if make is None:
            return False
        usual = make(asked, getattr(message, "status", 0))
        return usual == message

    def heard(self, host: int, message: msgspec.Struct) -> None:
        """Remember what a host was asked."""
        if type(message) in ANSWERS or isinstance(message, device.SocketConnect):
            self.questions.append((host, message))
        offer = self.find(host, {"offer_id": getattr(message, "offer_id", 0)})
        if offer is None:
            return
        if isinstance(message, device.Open):
            offer.generation, offer.vp = message.generation, message.target_vp
        elif isinstance(message, device.Retarget):
            offer.vp = message.vp
        elif isinstance(message, device.Gpadl | device.Teardown):
            offer.gpadl = message.gpadl

    def guest_heard(self, message: messages.Offer) -> None:
        """The guest was offered a channel: now its relid is known."""
        key = (message.if_type, message.if_instance, message.sub_channel_index)
        for offer in self.offers:
            if offer.key == key:
                offer.relid = message.child_relid
            elif offer.relid == message.child_relid:
                offer.relid = 0

    def answer(self, host: int, status: int, fields: Fields, question: str = "") -> msgspec.Struct | None:
        """The answer to the oldest question of a host that fits the fields; None if there is none."""
        for asker, asked in self.questions:
            if (
                asker != host
                or question not in ("", type(asked).__name__)
                or not self._fits(host, asked, fields)
            ):
                continue
            if isinstance(asked, device.SocketConnect):
                return device.SocketAnswer(asked.request_id, status, self.next_id)
            return ANSWERS[type(asked)](asked, status)
        return None

    def _fits(self, host: int, asked: msgspec.Struct, fields: Fields) -> bool:
        offer_id = getattr(asked, "offer_id", 0)
        if "gpadl" in fields and getattr(asked, "gpadl", None) != fields["gpadl"]:
            return False
        if "relid" in fields and self.relid_of(host)(asked) != fields["relid"]:
            return False
        return "id" not in fields or fields["id"] == offer_id
