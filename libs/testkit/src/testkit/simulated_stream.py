"""
JetStream's streams and durables in virtual time.

A message is stored until its durable acks it, and delivered again after the ack
wait or a nak's delay. Repeats of a ``Nats-Msg-Id`` are dropped within a window.
"""

import asyncio
import json
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from nats.aio.msg import Msg

from contracts.headers import DEDUPE_ID
from testkit.clock import EPOCH
from testkit.simulated_wire import Link, Wire, matches

DEDUPE_MAX: Final = 100_000
NEVER_S: Final = -1e9


@dataclass(slots=True)
class Stored:
    """A message in a stream."""

    sequence: int
    subject: str
    body: bytes
    headers: dict[str, str]
    at_s: float
    deliveries: int = 0
    is_due: bool = True
    hold: int = 0
    """Counts the waits; the timer of an older one changes nothing."""


@dataclass(slots=True)
class Pull:
    """A client that waits for one message of a durable."""

    link: Link
    answer: "asyncio.Future[Msg]"


@dataclass(slots=True)
class Consumer:
    """A durable: what it has to deliver, and who waits for it."""

    stream: str
    name: str
    pattern: str
    messages: OrderedDict[int, Stored] = field(default_factory=OrderedDict[int, Stored])
    waiting: deque[Pull] = field(default_factory=deque[Pull])
    delivered: int = 0

    @property
    def key(self) -> str:
        """Return ``<stream>.<durable>``."""
        return f"{self.stream}.{self.name}"


@dataclass(slots=True)
class Stream:
    """A stream and its durables."""

    name: str
    pattern: str
    created_s: float
    sequence: int = 0
    seen: OrderedDict[str, float] = field(default_factory=OrderedDict[str, float])
    consumers: dict[str, Consumer] = field(default_factory=dict[str, Consumer])


class SimulatedJetStream:
    """
    The streams.

    Args:
        wire: Time and luck.
        ack_wait_s: A delivery not settled within this is made again.
        dedupe_s: Repeats of a ``Nats-Msg-Id`` are dropped within this.
    """

    def __init__(self, wire: Wire, *, ack_wait_s: float, dedupe_s: float) -> None:
        self._wire = wire
        self._ack_wait_s = ack_wait_s
        self._dedupe_s = dedupe_s
        self._streams: dict[str, Stream] = {}

    def add_stream(self, name: str, pattern: str) -> None:
        """Make a stream; one that is there stays."""
        if name not in self._streams:
            self._streams[name] = Stream(name, pattern, self._wire.time())

    def add_durable(self, stream: str, name: str, pattern: str) -> None:
        """Make a durable; one that is there stays."""
        consumers = self._streams[stream].consumers
        if name not in consumers:
            consumers[name] = Consumer(stream, name, pattern)

    def has_durable(self, stream: str, name: str) -> bool:
        """Tell whether a durable is there."""
        found = self._streams.get(stream)
        return found is not None and name in found.consumers

    def captures(self, subject: str) -> bool:
        """Tell whether a stream stores this subject."""
        return self._stream_of(subject) is not None

    def stop(self) -> None:
        """Forget who waits; what is stored stays."""
        for consumer in self._consumers():
            consumer.waiting.clear()

    def start(self) -> None:
        """Deliver again what is due."""
        for consumer in self._consumers():
            self._dispatch(consumer)

    def wipe(self) -> None:
        """Lose everything stored; the bootstrap makes the streams anew."""
        for stream in self._streams.values():
            stream.created_s = self._wire.time()
            stream.sequence = 0
            stream.seen.clear()
        for consumer in self._consumers():
            consumer.messages.clear()

    def backlog(self) -> int:
        """Return how many messages wait or are being processed."""
        return sum(len(consumer.messages) for consumer in self._consumers())

    def store(self, subject: str, body: bytes, headers: dict[str, str]) -> bytes:
        """Store a message, or drop a repeat; return the PubAck."""
        stream = self._stream_of(subject)
        assert stream is not None
        now_s = self._wire.time()
        key = headers.get(DEDUPE_ID)
        seen_s = NEVER_S if key is None else stream.seen.get(key, NEVER_S)
        is_repeat = now_s - seen_s < self._dedupe_s
        self._wire.record("repeat" if is_repeat else "stored", f"{subject} {key}")
        if not is_repeat:
            if key is not None:
                stream.seen[key] = now_s
                if len(stream.seen) > DEDUPE_MAX:
                    stream.seen.popitem(last=False)
            stream.sequence += 1
            self._append(stream, subject, body, headers)
        ack = {"stream": stream.name, "seq": stream.sequence, "duplicate": is_repeat}
        return json.dumps(ack).encode()

    def pull(self, stream: str, durable: str, link: Link) -> "asyncio.Future[Msg]":
        """Wait for one message of a durable; cancel the future to stop."""
        answer = self._wire.future()
        consumer = self._streams[stream].consumers[durable]
        consumer.waiting.append(Pull(link, answer))
        self._wire.later(
            self._wire.hop_s("pull", consumer.key), self._dispatch, consumer
        )
        return answer

    def settle(self, subject: str, body: bytes) -> None:
        """Take an ack, nak, term or a sign of life, in the real protocol."""
        _, _, stream, durable, _, sequence, *_ = subject.split(".")
        if not self.has_durable(stream, durable):
            return
        consumer = self._streams[stream].consumers[durable]
        stored = consumer.messages.get(int(sequence))
        if stored is None:
            return
        verdict = body.split(b" ")[0].decode() or "+ACK"
        self._wire.record("settled", f"{consumer.key} {sequence} {verdict}")
        match verdict:
            case "+WPI":
                self._hold(consumer, stored, self._ack_wait_s)
            case "-NAK":
                options = json.loads(body[len(verdict) :] or b"{}")
                self._hold(consumer, stored, options.get("delay", 0) / 1e9)
            case _:
                del consumer.messages[stored.sequence]

    # Any: JSON of JetStream's API.
    def answer(self, subject: str, body: bytes) -> dict[str, Any]:
        """Answer the two questions of the API that the bus asks."""
        if subject == "$JS.API.STREAM.NAMES":
            wanted = json.loads(body or b"{}").get("subject", ">")
            names = [
                stream.name
                for stream in self._streams.values()
                if matches(wanted, stream.pattern)
            ]
            return {"total": len(names), "streams": names}
        stream = self._streams.get(subject.rpartition(".")[2])
        if stream is None:
            return {"error": {"code": 404, "description": "stream not found"}}
        created = EPOCH + timedelta(seconds=stream.created_s)
        now = EPOCH + timedelta(seconds=self._wire.time())
        return {"created": created.isoformat(), "ts": now.isoformat()}

    def _append(
        self, stream: Stream, subject: str, body: bytes, headers: dict[str, str]
    ) -> None:
        now_s = self._wire.time()
        for consumer in stream.consumers.values():
            if matches(consumer.pattern, subject):
                stored = Stored(stream.sequence, subject, body, headers, now_s)
                consumer.messages[stream.sequence] = stored
                self._dispatch(consumer)

    def _dispatch(self, consumer: Consumer) -> None:
        if not self._wire.is_up:
            return
        for stored in list(consumer.messages.values()):
            if not stored.is_due:
                continue
            pull = _next_pull(consumer)
            if pull is None:
                return
            self._deliver(consumer, stored, pull)

    def _deliver(self, consumer: Consumer, stored: Stored, pull: Pull) -> None:
        wire, key = self._wire, consumer.key
        consumer.delivered += 1
        stored.deliveries += 1
        self._hold(consumer, stored, self._ack_wait_s)
        # The pull that a lost one was meant for ends by its client's own timeout.
        if wire.loses(wire.faults.delivery_lost, "delivery.lost", key):
            return
        if wire.loses(wire.faults.delivery_duplicated, "delivery.doubled", key):
            self._hold(consumer, stored, wire.hop_s(key))
        stamp_ns = int(EPOCH.timestamp() * 1e9) + int(stored.at_s * 1e9)
        reply = (
            f"$JS.ACK.{key}.{stored.deliveries}.{stored.sequence}."
            f"{consumer.delivered}.{stamp_ns}.{len(consumer.messages)}"
        )
        msg = pull.link.message(stored.subject, stored.body, stored.headers, reply)
        wire.record("delivered", f"{key} {stored.sequence} {stored.deliveries}")
        wire.later(wire.hop_s(key), _answer, pull, msg)

    def _hold(self, consumer: Consumer, stored: Stored, duration_s: float) -> None:
        stored.hold += 1
        stored.is_due = False
        self._wire.later(duration_s, self._release, consumer, stored, stored.hold)

    def _release(self, consumer: Consumer, stored: Stored, hold: int) -> None:
        is_there = consumer.messages.get(stored.sequence) is stored
        if stored.hold == hold and is_there:
            stored.is_due = True
            self._dispatch(consumer)

    def _stream_of(self, subject: str) -> Stream | None:
        for stream in self._streams.values():
            if matches(stream.pattern, subject):
                return stream
        return None

    def _consumers(self) -> list[Consumer]:
        return [
            consumer
            for stream in self._streams.values()
            for consumer in stream.consumers.values()
        ]


def _next_pull(consumer: Consumer) -> Pull | None:
    while consumer.waiting:
        pull = consumer.waiting.popleft()
        if pull.link.is_alive and not pull.answer.done():
            return pull
    return None


def _answer(pull: Pull, msg: Msg) -> None:
    # One that stopped waiting meanwhile leaves the message to the ack wait.
    if pull.link.is_alive and not pull.answer.done():
        pull.answer.set_result(msg)
