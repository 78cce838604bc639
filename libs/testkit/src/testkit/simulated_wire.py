"""
What every part of the simulated NATS shares: its time, its luck and its lines.

Timers run in nobody's name, so that what was handed to the server survives its
sender's crash.
"""

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from nats.aio.client import Client
from nats.aio.msg import Msg

from testkit.chance import Chance

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
    core_reordered=0.02,
    publish_lost=0.03,
    puback_lost=0.03,
    delivery_lost=0.03,
    delivery_duplicated=0.03,
    ack_lost=0.03,
)


class Link:
    """A client's line to the server."""

    def __init__(self, name: str, is_process_alive: Callable[[], bool]) -> None:
        self.name = name
        self._is_process_alive = is_process_alive
        self.is_open = True
        self.client: Client | None = None
        self.on_reconnect: Callable[[], None] = lambda: None

    @property
    def is_alive(self) -> bool:
        """Tell whether the client is there."""
        return self.is_open and self._is_process_alive()

    def message(
        self, subject: str, body: bytes, headers: Mapping[str, str], reply: str
    ) -> Msg:
        """Return the message as this client receives it."""
        return Msg(
            # The message only ever publishes its ack through it.
            _client=cast("Client", self.client),
            subject=subject,
            reply=reply,
            data=body,
            headers=dict(headers) or None,
        )


class Wire:
    """
    Time and luck.

    Args:
        loop: Whose time.
        seed: Decides every fault and delay.
        faults: How often each thing goes wrong; may be changed while it runs.
        record: Notes what happened.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seed: int,
        faults: Faults,
        record: Record,
    ) -> None:
        self.faults = faults
        self.record = record
        self.is_up = True
        self.chance = Chance(seed)
        self._loop = loop
        self._context = contextvars.Context()

    def time(self) -> float:
        """Return the virtual seconds since the run began."""
        return self._loop.time()

    def future(self) -> "asyncio.Future[Msg]":
        """Return a future of the loop."""
        return self._loop.create_future()

    def hop_s(self, *key: str) -> float:
        """Return how long this hop takes."""
        spread_s = self.faults.hop_s_max - self.faults.hop_s_min
        return self.faults.hop_s_min + spread_s * self.chance.draw("hop", *key)

    def loses(self, probability: float, what: str, which: str) -> bool:
        """Tell whether this one is lost, and note it."""
        is_lost = self.chance.happens(probability, what, which)
        if is_lost:
            self.record(what, which)
        return is_lost

    def later(
        self, delay_s: float, callback: Callable[..., None], *args: object
    ) -> None:
        """Call in a while, in nobody's name."""
        self._loop.call_later(delay_s, callback, *args, context=self._context)

    def at(self, when_s: float, callback: Callable[..., None], *args: object) -> None:
        """Call at a time, in nobody's name."""
        self._loop.call_at(when_s, callback, *args, context=self._context)


def matches(pattern: str, subject: str) -> bool:
    """Tell whether a subject matches a pattern with ``*`` and ``>``."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, part in enumerate(wanted):
        if part == ">":
            return len(given) > index
        if index >= len(given) or part not in {"*", given[index]}:
            return False
    return len(wanted) == len(given)
