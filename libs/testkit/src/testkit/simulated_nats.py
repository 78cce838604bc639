"""
NATS and JetStream in virtual time, with the faults that the real ones have.

    core      at most once; queue groups; a request without a listener gets 503;
              dropped, duplicated and reordered by chance
    stream    stored until acked; redelivered after the ack wait or a nak's delay;
              repeats of a ``Nats-Msg-Id`` dropped within a window; PubAcks,
              deliveries and acks lost by chance

The server belongs to nobody: what was handed to it survives its sender's crash.
Messages are the real client's, so that acks are spoken in the real protocol.
"""

import asyncio
import contextvars
import json
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, cast

from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.headers import DEDUPE_ID
from testkit.chance import Chance
from testkit.clock import EPOCH

NO_RESPONDERS: Final = {"Status": "503"}
DEDUPE_MAX: Final = 100_000
Record = Callable[[str, str], None]
"""Notes what happened and to what, for the trace of the run."""


@dataclass(frozen=True, slots=True)
class Faults:
    """How often each thing goes wrong, from 0 to 1, and how slow a hop may be."""

    hop_s_min: float = 0.0002
    hop_s_max: float = 0.004
    core_dropped: float = 0.0
    core_duplicated: float = 0.0
    core_reordered: float = 0.0
    publish_lost: float = 0.0
    puback_lost: float = 0.0
    delivery_lost: float = 0.0
    delivery_duplicated: float = 0.0
    ack_lost: float = 0.0


CALM: Final = Faults()
STORMY: Final = Faults(
    hop_s_max=0.05,
    core_dropped=0.02,
    core_duplicated=0.02,
    core_reordered=0.03,
    publish_lost=0.03,
    puback_lost=0.03,
    delivery_lost=0.03,
    delivery_duplicated=0.03,
    ack_lost=0.03,
)


@dataclass(slots=True)
class Stored:
    """A message in a stream."""

    sequence: int
    subject: str
    body: bytes
    headers: dict[str, str]
    at_s: float
    deliveries: int = 0
    due_s: float | None = 0.0
    """When it may be delivered; None while nobody may."""
    token: int = 0
    """Of the delivery in flight; an older delivery's timer changes nothing."""


@dataclass(slots=True)
class Consumer:
    """A durable: whom it waits for, and where it stands."""

    stream: str
    name: str
    pattern: str
    messages: OrderedDict[int, Stored] = field(default_factory=OrderedDict[int, Stored])
    waiting: "deque[Pull]" = field(default_factory=lambda: deque[Pull]())
    delivered: int = 0


@dataclass(slots=True)
class Stream:
    """A stream and its durables."""

    name: str
    pattern: str
    created_s: float
    sequence: int = 0
    seen: OrderedDict[str, float] = field(default_factory=OrderedDict[str, float])
    consumers: dict[str, Consumer] = field(default_factory=dict[str, Consumer])


@dataclass(slots=True)
class Pull:
    """A client that waits for one message of a durable."""

    link: "Link"
    answer: "asyncio.Future[Msg]"


@dataclass(slots=True, eq=False)
class Interest:
    """A core subscription."""

    link: "Link"
    pattern: str
    queue: str
    deliver: Callable[[Msg], None]
    last_s: float = 0.0


class Link:
    """A client's line to the server."""

    def __init__(self, name: str, is_alive: Callable[[], bool]) -> None:
        self.name = name
        self._is_alive = is_alive
        self.is_open = True
        self.client: Client | None = None
        self.on_reconnect: Callable[[], None] = lambda: None

    @property
    def is_alive(self) -> bool:
        """Tell whether the client is there."""
        return self.is_open and self._is_alive()


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
        record: Record = lambda _what, _which: None,
    ) -> None:
        self.faults = faults
        self.is_up = True
        self._loop = loop
        self._chance = Chance(seed)
        self._ack_wait_s = ack_wait_s
        self._dedupe_s = dedupe_s
        self._record = record
        self._interests: list[Interest] = []
        self._streams: dict[str, Stream] = {}
        self._links: list[Link] = []
        # Timers of the server run in nobody's name.
        self._context = contextvars.Context()

    # -- what the bootstrap does --

    def add_stream(self, name: str, pattern: str) -> None:
        """Make a stream; one that is there stays."""
        if name not in self._streams:
            self._streams[name] = Stream(name, pattern, self._loop.time())

    def add_durable(self, stream: str, name: str, pattern: str) -> None:
        """Make a durable; one that is there stays."""
        consumers = self._streams[stream].consumers
        if name not in consumers:
            consumers[name] = Consumer(stream, name, pattern)

    def has_durable(self, stream: str, name: str) -> bool:
        """Tell whether a durable is there and the server answers."""
        found = self._streams.get(stream)
        return self.is_up and found is not None and name in found.consumers

    # -- what befalls it --

    def down(self) -> None:
        """Stop the server; what it had stored stays on its disk."""
        self._record("nats.down", "")
        self.is_up = False
        for stream in self._streams.values():
            for consumer in stream.consumers.values():
                consumer.waiting.clear()

    def up(self) -> None:
        """Start the server again; clients reconnect and listen as before."""
        self._record("nats.up", "")
        self.is_up = True
        for link in list(self._links):
            if link.is_alive:
                self._later(0.0, link.on_reconnect)
        for stream in self._streams.values():
            for consumer in stream.consumers.values():
                self._dispatch(consumer)

    def wipe(self) -> None:
        """Lose everything stored and in flight; the bootstrap makes it anew."""
        self._record("nats.wipe", "")
        for stream in self._streams.values():
            stream.created_s = self._loop.time()
            stream.sequence = 0
            stream.seen.clear()
            for consumer in stream.consumers.values():
                consumer.messages.clear()

    # -- what clients do --

    def connect(self, name: str, is_alive: Callable[[], bool]) -> Link:
        """Open a line."""
        link = Link(name, is_alive)
        self._links.append(link)
        return link

    def disconnect(self, link: Link) -> None:
        """Close a line; its subscriptions end."""
        link.is_open = False
        self._links.remove(link)
        self._interests = [each for each in self._interests if each.link is not link]

    def listen(self, interest: Interest) -> None:
        """Add a core subscription."""
        self._interests.append(interest)

    def unlisten(self, interest: Interest) -> None:
        """End a core subscription."""
        if interest in self._interests:
            self._interests.remove(interest)

    def publish(
        self, subject: str, body: bytes, headers: Mapping[str, str], reply: str
    ) -> None:
        """Take a message from a client; what becomes of it, nobody tells."""
        if not self.is_up:
            return
        hop_s = self._hop_s(subject)
        message = (subject, body, dict(headers), reply)
        if subject.startswith("$JS.ACK."):
            if self._chance.happens(self.faults.ack_lost, "ack-lost", subject):
                self._record("ack.lost", subject)
                return
            self._later(hop_s, self._settle, subject, body)
        elif self._stream_of(subject) is not None:
            if self._chance.happens(self.faults.publish_lost, "publish-lost", subject):
                self._record("publish.lost", subject)
                return
            self._later(hop_s, self._store, *message)
        elif subject.startswith("$JS.API."):
            self._later(hop_s, self._answer_api, *message)
        else:
            self._route(*message)

    def pull(self, stream: str, durable: str, link: Link) -> "asyncio.Future[Msg]":
        """Wait for one message of a durable; cancel the future to stop."""
        answer: asyncio.Future[Msg] = self._loop.create_future()
        consumer = self._streams[stream].consumers[durable]
        consumer.waiting.append(Pull(link, answer))
        self._later(self._hop_s("pull", stream, durable), self._dispatch, consumer)
        return answer

    # -- core --

    def _route(
        self, subject: str, body: bytes, headers: dict[str, str], reply: str
    ) -> None:
        chosen = self._listeners(subject)
        if not chosen and reply:
            self._route(reply, b"", NO_RESPONDERS, "")
        for interest in chosen:
            self._send_core(interest, subject, body, headers, reply)

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
            chosen.append(members[self._chance.pick(len(members), "queue", queue)])
        return chosen

    def _send_core(
        self,
        interest: Interest,
        subject: str,
        body: bytes,
        headers: dict[str, str],
        reply: str,
    ) -> None:
        faults = self.faults
        if self._chance.happens(faults.core_dropped, "core-dropped", subject):
            self._record("core.dropped", subject)
            return
        copies = 1
        if self._chance.happens(faults.core_duplicated, "core-duplicated", subject):
            copies = 2
        for _ in range(copies):
            at_s = self._loop.time() + self._hop_s(subject)
            if self._chance.happens(faults.core_reordered, "core-reordered", subject):
                at_s += self.faults.hop_s_max * 2
            else:
                # A line keeps its order.
                at_s = interest.last_s = max(at_s, interest.last_s)
            self._loop.call_at(
                at_s,
                self._hand_over,
                interest,
                subject,
                body,
                headers,
                reply,
                context=self._context,
            )

    def _hand_over(
        self,
        interest: Interest,
        subject: str,
        body: bytes,
        headers: dict[str, str],
        reply: str,
    ) -> None:
        if not self.is_up or not interest.link.is_alive:
            return
        self._record("core", subject)
        interest.deliver(self._message(interest.link, subject, body, headers, reply))

    # -- streams --

    def _store(
        self, subject: str, body: bytes, headers: dict[str, str], reply: str
    ) -> None:
        stream = self._stream_of(subject)
        if not self.is_up or stream is None:
            return
        now_s = self._loop.time()
        key = headers.get(DEDUPE_ID)
        is_repeat = key is not None and now_s - stream.seen.get(key, -1e9) < (
            self._dedupe_s
        )
        if not is_repeat:
            stream.sequence += 1
            if key is not None:
                stream.seen[key] = now_s
                if len(stream.seen) > DEDUPE_MAX:
                    stream.seen.popitem(last=False)
            self._append(stream, subject, body, headers)
        self._record("stored" if not is_repeat else "repeat", f"{subject} {key}")
        if not reply:
            return
        if self._chance.happens(self.faults.puback_lost, "puback-lost", subject):
            self._record("puback.lost", subject)
            return
        ack = {"stream": stream.name, "seq": stream.sequence, "duplicate": is_repeat}
        self._reply(reply, json.dumps(ack).encode())

    def _append(
        self, stream: Stream, subject: str, body: bytes, headers: dict[str, str]
    ) -> None:
        now_s = self._loop.time()
        for consumer in stream.consumers.values():
            if matches(consumer.pattern, subject):
                consumer.messages[stream.sequence] = Stored(
                    stream.sequence, subject, body, headers, now_s
                )
                self._dispatch(consumer)

    def _dispatch(self, consumer: Consumer) -> None:
        if not self.is_up:
            return
        now_s = self._loop.time()
        for stored in list(consumer.messages.values()):
            if stored.due_s is None or stored.due_s > now_s:
                continue
            pull = self._next_pull(consumer)
            if pull is None:
                return
            self._deliver(consumer, stored, pull)

    def _next_pull(self, consumer: Consumer) -> Pull | None:
        while consumer.waiting:
            pull = consumer.waiting.popleft()
            if pull.link.is_alive and not pull.answer.done():
                return pull
        return None

    def _deliver(self, consumer: Consumer, stored: Stored, pull: Pull) -> None:
        consumer.delivered += 1
        stored.deliveries += 1
        self._hold(consumer, stored, self._ack_wait_s)
        key = f"{consumer.stream}.{consumer.name}"
        if self._chance.happens(self.faults.delivery_lost, "delivery-lost", key):
            # The pull that it was meant for ends by its client's own timeout.
            self._record("delivery.lost", f"{key} {stored.sequence}")
            return
        if self._chance.happens(
            self.faults.delivery_duplicated, "delivery-duplicated", key
        ):
            self._hold(consumer, stored, self._hop_s(key))
        stamp_ns = int(EPOCH.timestamp() * 1e9) + int(stored.at_s * 1e9)
        reply = (
            f"$JS.ACK.{consumer.stream}.{consumer.name}.{stored.deliveries}."
            f"{stored.sequence}.{consumer.delivered}.{stamp_ns}."
            f"{len(consumer.messages)}"
        )
        msg = self._message(
            pull.link, stored.subject, stored.body, stored.headers, reply
        )
        self._record("delivered", f"{key} {stored.sequence} {stored.deliveries}")
        self._later(self._hop_s(key), _answer, pull, msg)

    def _hold(self, consumer: Consumer, stored: Stored, duration_s: float) -> None:
        stored.token += 1
        stored.due_s = None
        self._later(duration_s, self._redeliver, consumer, stored, stored.token)

    def _redeliver(self, consumer: Consumer, stored: Stored, token: int) -> None:
        if stored.token == token and stored.sequence in consumer.messages:
            stored.due_s = self._loop.time()
            self._dispatch(consumer)

    def _settle(self, subject: str, body: bytes) -> None:
        _, _, stream_name, durable, _, sequence, *_ = subject.split(".")
        stream = self._streams.get(stream_name)
        if not self.is_up or stream is None or durable not in stream.consumers:
            return
        consumer = stream.consumers[durable]
        stored = consumer.messages.get(int(sequence))
        if stored is None:
            return
        verdict = body.split(b" ")[0] or b"+ACK"
        self._record("settled", f"{stream_name}.{durable} {sequence} {verdict!r}")
        match verdict:
            case b"+WPI":
                self._hold(consumer, stored, self._ack_wait_s)
            case b"-NAK":
                options = json.loads(body[len(verdict) :] or b"{}")
                self._hold(consumer, stored, options.get("delay", 0) / 1e9)
            case _:
                del consumer.messages[stored.sequence]

    # -- the API that the bus asks --

    def _answer_api(
        self, subject: str, body: bytes, _headers: dict[str, str], reply: str
    ) -> None:
        if not self.is_up or not reply:
            return
        answer: dict[str, Any]
        if subject == "$JS.API.STREAM.NAMES":
            wanted = json.loads(body or b"{}").get("subject", ">")
            names = [
                stream.name
                for stream in self._streams.values()
                if matches(wanted, stream.pattern)
            ]
            answer = {"total": len(names), "streams": names}
        else:
            name = subject.rpartition(".")[2]
            stream = self._streams.get(name)
            answer = {"error": {"code": 404, "description": "stream not found"}}
            if stream is not None:
                created = EPOCH + timedelta(seconds=stream.created_s)
                answer = {"created": created.isoformat()}
        self._reply(reply, json.dumps(answer).encode())

    # -- small things --

    def _reply(self, inbox: str, body: bytes) -> None:
        for interest in self._listeners(inbox):
            self._loop.call_later(
                self._hop_s("reply", inbox),
                self._hand_over,
                interest,
                inbox,
                body,
                {},
                "",
                context=self._context,
            )

    def _stream_of(self, subject: str) -> Stream | None:
        for stream in self._streams.values():
            if matches(stream.pattern, subject):
                return stream
        return None

    def _message(
        self,
        link: Link,
        subject: str,
        body: bytes,
        headers: dict[str, str],
        reply: str,
    ) -> Msg:
        return Msg(
            # The message only ever publishes its ack through it.
            _client=cast("Client", link.client),
            subject=subject,
            reply=reply,
            data=body,
            headers=dict(headers) or None,
        )

    def _hop_s(self, *key: str) -> float:
        spread_s = self.faults.hop_s_max - self.faults.hop_s_min
        return self.faults.hop_s_min + spread_s * self._chance.draw("hop", *key)

    def _later(
        self, delay_s: float, callback: Callable[..., None], *args: object
    ) -> None:
        self._loop.call_later(delay_s, callback, *args, context=self._context)


def _answer(pull: Pull, msg: Msg) -> None:
    # One that stopped waiting meanwhile leaves the message to the ack wait.
    if pull.link.is_alive and not pull.answer.done():
        pull.answer.set_result(msg)


def matches(pattern: str, subject: str) -> bool:
    """Tell whether a subject matches a pattern with ``*`` and ``>``."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or token not in {"*", given[index]}:
            return False
    return len(wanted) == len(given)
