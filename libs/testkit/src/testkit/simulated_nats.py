"""
NATS in virtual time, with the faults that the real one has.

Core messages come at most once, to every listener and to one of each queue group;
a request without a listener gets 503; chance drops, doubles and reorders them.
Subjects that a stream captures go to ``simulated_stream``.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from nats.aio.msg import Msg

from testkit.simulated_stream import SimulatedJetStream
from testkit.simulated_wire import CALM, Faults, Link, Record, Wire, matches

NO_RESPONDERS: Final[Mapping[str, str]] = {"Status": "503"}


@dataclass(slots=True, eq=False)
class Interest:
    """A core subscription."""

    link: Link
    pattern: str
    queue: str
    deliver: Callable[[Msg], None]
    last_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Published:
    """A core message on its way."""

    subject: str
    body: bytes
    headers: Mapping[str, str]
    reply: str


def _unrecorded(_what: str, _which: str) -> None:
    """Note nothing."""


class SimulatedNats:
    """
    The server.

    Args:
        loop: Its time.
        seed: Decides every fault and delay.
        faults: How often each thing goes wrong.
        ack_wait_s: A delivery not settled within this is made again.
        dedupe_s: Repeats of a ``Nats-Msg-Id`` are dropped within this.
        record: Notes what happened.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seed: int,
        *,
        faults: Faults = CALM,
        ack_wait_s: float = 30.0,
        dedupe_s: float = 120.0,
        record: Record = _unrecorded,
    ) -> None:
        self._wire = Wire(loop, seed, faults, record)
        self.streams = SimulatedJetStream(
            self._wire, ack_wait_s=ack_wait_s, dedupe_s=dedupe_s
        )
        self._interests: list[Interest] = []
        self._links: list[Link] = []

    @property
    def is_up(self) -> bool:
        """Tell whether it runs."""
        return self._wire.is_up

    @property
    def faults(self) -> Faults:
        """Return how often each thing goes wrong now."""
        return self._wire.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._wire.faults = faults

    def down(self) -> None:
        """Stop; what was stored stays on disk, what was in flight is lost."""
        self._wire.record("nats.down", "")
        self._wire.is_up = False
        self.streams.stop()

    def up(self) -> None:
        """Start again; clients reconnect and listen as before."""
        self._wire.record("nats.up", "")
        self._wire.is_up = True
        for link in self._links:
            if link.is_alive:
                self._wire.later(0.0, link.on_reconnect)
        self.streams.start()

    def wipe(self) -> None:
        """Lose what was stored; see ``SimulatedJetStream.wipe``."""
        self._wire.record("nats.wipe", "")
        self.streams.wipe()

    def connect(self, name: str, is_alive: Callable[[], bool]) -> Link:
        """Open a line."""
        link = Link(name, is_alive)
        self._links.append(link)
        return link

    def disconnect(self, link: Link) -> None:
        """Close a line; its subscriptions end."""
        link.is_open = False
        self._sweep()

    def listen(self, interest: Interest) -> None:
        """Add a core subscription."""
        self._sweep()
        self._interests.append(interest)

    def unlisten(self, interest: Interest) -> None:
        """End a core subscription."""
        if interest in self._interests:
            self._interests.remove(interest)

    def publish(
        self, subject: str, body: bytes, headers: Mapping[str, str], reply: str
    ) -> None:
        """Take a message from a client; what becomes of it, nobody tells."""
        wire, faults = self._wire, self._wire.faults
        if not wire.is_up:
            return
        message = Published(subject, body, dict(headers), reply)
        if subject.startswith("$JS.ACK."):
            if not wire.loses(faults.ack_lost, "ack.lost", subject):
                wire.later(wire.hop_s(subject), self._settle, message)
        elif self.streams.captures(subject):
            if not wire.loses(faults.publish_lost, "publish.lost", subject):
                wire.later(wire.hop_s(subject), self._store, message)
        elif subject.startswith("$JS.API."):
            wire.later(wire.hop_s(subject), self._answer_api, message)
        else:
            self._route(message)

    def _settle(self, message: Published) -> None:
        if self.is_up:
            self.streams.settle(message.subject, message.body)

    def _store(self, message: Published) -> None:
        if not self.is_up:
            return
        ack = self.streams.store(message.subject, message.body, dict(message.headers))
        lost = self._wire.faults.puback_lost
        if message.reply and not self._wire.loses(lost, "puback.lost", message.subject):
            self._reply(message.reply, ack)

    def _answer_api(self, message: Published) -> None:
        if self.is_up and message.reply:
            answer = self.streams.answer(message.subject, message.body)
            self._reply(message.reply, json.dumps(answer).encode())

    def _reply(self, inbox: str, body: bytes) -> None:
        for interest in self._listeners(inbox):
            published = Published(inbox, body, {}, "")
            self._wire.later(
                self._wire.hop_s("reply", inbox), self._hand_over, interest, published
            )

    def _route(self, message: Published) -> None:
        chosen = self._listeners(message.subject)
        if not chosen and message.reply:
            self._route(Published(message.reply, b"", NO_RESPONDERS, ""))
        for interest in chosen:
            self._send(interest, message)

    def _listeners(self, subject: str) -> list[Interest]:
        groups: dict[str, list[Interest]] = {}
        chosen: list[Interest] = []
        for interest in self._interests:
            if not interest.link.is_alive or not matches(interest.pattern, subject):
                continue
            if interest.queue:
                groups.setdefault(interest.queue, []).append(interest)
            else:
                chosen.append(interest)
        for queue, members in groups.items():
            chosen.append(members[self._wire.chance.pick(len(members), "queue", queue)])
        return chosen

    def _send(self, interest: Interest, message: Published) -> None:
        wire, faults, subject = self._wire, self._wire.faults, message.subject
        if wire.loses(faults.core_dropped, "core.dropped", subject):
            return
        is_doubled = wire.loses(faults.core_duplicated, "core.doubled", subject)
        for _ in range(2 if is_doubled else 1):
            at_s = wire.time() + wire.hop_s(subject)
            if wire.loses(faults.core_reordered, "core.reordered", subject):
                at_s += faults.hop_s_max * 2
            else:
                # A line keeps its order.
                at_s = interest.last_s = max(at_s, interest.last_s)
            wire.at(at_s, self._hand_over, interest, message)

    def _hand_over(self, interest: Interest, message: Published) -> None:
        if not self.is_up or not interest.link.is_alive:
            return
        self._wire.record("core", message.subject)
        interest.deliver(
            interest.link.message(
                message.subject, message.body, message.headers, message.reply
            )
        )

    def _sweep(self) -> None:
        """Forget the lines of processes that are gone."""
        self._links = [link for link in self._links if link.is_alive]
        self._interests = [each for each in self._interests if each.link.is_alive]
