"""
One call of one vendor: what it says is noted, held at the gate, then forwarded.

A call never decides about others. It asks ``may_tell`` before its first content goes
out, since another call may have been first, and it can be stopped or muted by whoever
owns it; either way it knows at its end what it consumed.
"""

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, assert_never

import telemetry
from ai_broker.domain import limits, settlement
from ai_broker.domain.answer import delta_of
from ai_broker.domain.attempt import Attempt, Settlement
from ai_broker.domain.catalogue import Abort, Candidate
from ai_broker.domain.completion import Held
from ai_broker.domain.embedding import EmbeddingQuestion
from ai_broker.domain.gate import Gate
from ai_broker.domain.guard.restoring import Restorations, Restoring
from ai_broker.domain.hedging import Hedge
from ai_broker.domain.routing import Tried
from ai_broker.domain.settlement import Heard
from ai_broker.domain.vendor import (
    Declined,
    Done,
    Failure,
    FailureKind,
    Piece,
    Prepared,
    Reasoning,
    Started,
    Text,
    ToolCallPiece,
    UsageSeen,
    Vectors,
    VendorError,
    VendorEvent,
)
from ai_broker.handlers import gauges
from ai_broker.handlers.board import Board
from ai_broker.handlers.caller import Caller
from ai_broker.handlers.line import Ticket
from ai_broker.handlers.purse import Purse
from ai_broker.handlers.running import Running
from ai_broker.ports import Deps
from contracts.completions import CompletionRequest
from contracts.usage import EndState
from telemetry import SpanKind

DRAIN_S: Final = 60.0
"""How long a call is read on after everybody has stopped waiting for it."""

log = telemetry.get_logger()


@dataclass(frozen=True)
class Choice:
    """A candidate that can do what is asked, with the request in its own form."""

    candidate: Candidate
    request: CompletionRequest
    """What it is sent, after the guard and within the budget."""
    prepared: Prepared
    restorations: Restorations = field(default_factory=Restorations.none)
    """What the guard took out of the body, and the answer gets back."""


@dataclass(frozen=True)
class Route:
    """Who may answer a request, first choice first."""

    choices: tuple[Choice, ...]
    tokens: int
    """Roughly what the request sends."""
    hedge: Hedge | None = None

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Return the choices' candidates."""
        return tuple(each.candidate for each in self.choices)


@dataclass(frozen=True)
class Job:
    """A claimed completion on its way to an answer."""

    request: CompletionRequest
    route: Route
    held: Held
    running: Running
    caller: Caller
    deadline: datetime
    deps: Deps
    board: Board
    purse: Purse | None
    tried: list[Tried] = field(default_factory=list[Tried])
    """This round's failures, oldest first."""


@dataclass(frozen=True)
class Opened:
    """An attempt that is on disk and about to be called."""

    attempt: Attempt
    place: int
    """Its candidate's, on the route."""
    ticket: Ticket
    choice: Choice
    """As it is sent: its answer perhaps cut to what is affordable."""


@dataclass(frozen=True)
class Answered:
    """The vendor came to its proper end."""

    done: Done


@dataclass(frozen=True)
class Broken:
    """The vendor failed."""

    failure: Failure


@dataclass(frozen=True)
class Stopped:
    """We ended it: too late, or no longer wanted."""

    end_state: EndState


Ending = Answered | Broken | Stopped


class Call:
    """
    One call, from its dispatch to its end.

    Args:
        job: What it is made for.
        opened: Its attempt, on disk.
        may_tell: Asked once there is content; False when another call was first.
    """

    def __init__(
        self, job: Job, opened: Opened, may_tell: Callable[["Call"], bool]
    ) -> None:
        self.job = job
        self.opened = opened
        self.choice = opened.choice
        self.heard = Heard()
        self.gate = Gate()
        self.moved_at = job.deps.clock.now()
        """When it last showed that it makes progress."""
        self.stopped: EndState | None = None
        """Why nobody waits for it any more."""
        self._began_at = self.moved_at
        self._first_at: datetime | None = None
        self._may_tell = may_tell
        self._weight_max = limits.answer_weight_max(job.request)
        self._scope: asyncio.Timeout | None = None
        self._is_sent = False
        self._is_muted = False

    @property
    def candidate(self) -> Candidate:
        """Return who is called."""
        return self.choice.candidate

    def stop(self, end_state: EndState) -> None:
        """Hang up; ``run`` then returns ``Stopped``, if it has no other end yet."""
        self.mute(end_state)
        if self._scope is not None:
            # The loop's past: the scope ends at the next turn.
            self._scope.reschedule(0)

    def mute(self, end_state: EndState) -> None:
        """Tell nobody any more what it says."""
        self._is_muted = True
        self.stopped = self.stopped or end_state

    async def run(self) -> tuple[Ending, Settlement]:
        """Call the vendor; return how it ended and what it consumed."""
        record = self.opened.attempt.record
        is_embedding = isinstance(self.job.request, EmbeddingQuestion)
        operation = "embeddings" if is_embedding else "chat"
        attributes = gauges.asked(record, operation)
        name = f"{operation} {record.model}"
        with telemetry.span(name, attributes, kind=SpanKind.CLIENT):
            ending = await self._until_stopped()
            settled = self._settlement(ending)
            self._measure(ending, settled)
        return ending, settled

    async def _until_stopped(self) -> Ending:
        if self.stopped is not None:
            return Stopped(self.stopped)
        try:
            async with asyncio.timeout(None) as self._scope:
                self._is_sent = True
                return await self._consume()
        except TimeoutError:
            return Stopped(self.stopped or EndState.TIMED_OUT)
        finally:
            self._scope = None

    async def _consume(self) -> Ending:
        vendor = self.job.deps.vendors[self.candidate.vendor]
        attempt = self.opened.attempt
        attempt_id = attempt.record.attempt_id
        left_s = (attempt.deadline - self.job.deps.clock.now()).total_seconds()
        if self.candidate.abort is Abort.DRAIN:
            left_s += DRAIN_S
        is_embedding = isinstance(self.job.request, EmbeddingQuestion)
        ask = vendor.embed if is_embedding else vendor.complete
        try:
            calling = ask(self.choice.prepared.body, attempt_id, max(0.0, left_s))
            async with aclosing(calling) as events:
                done = await self._listen(events)
        except VendorError as error:
            return Broken(error.failure)
        # Supervised boundary: a vendor can send what no adapter has thought of, and
        # its attempt needs an end and a ledger line all the same. The error's text
        # may quote the answer, so only its kind and place are logged.
        except Exception as error:  # noqa: BLE001
            place = traceback.extract_tb(error.__traceback__)[-1]
            log.error(  # noqa: TRY400
                "vendor_answer_unreadable",
                attempt_id=attempt_id,
                error=type(error).__name__,
                place=f"{place.filename}:{place.lineno}",
            )
            detail = f"{self.candidate.vendor} sent what cannot be read; see the log"
            return Broken(Failure(FailureKind.MALFORMED, detail))
        if done is not None:
            return Answered(done)
        detail = f"{self.candidate.vendor} ended its stream without an end marker"
        return Broken(Failure(FailureKind.CUT, detail))

    async def _listen(self, events: AsyncIterator[VendorEvent]) -> Done | None:
        """Note and forward what the vendor says; None when it just stops."""
        hearing = Restoring(self.choice.restorations)
        async for event in events:
            match event:
                case Started() | UsageSeen() | Vectors():
                    self._note(event)
                case Done():
                    await self._take(hearing.end())
                    await self._tell(self.gate.release())
                    return hearing.ended(event)
                case Text() | Reasoning() | ToolCallPiece() | Declined():
                    self._moved()
                    await self._take(hearing.feed(event))
                case _:
                    assert_never(event)
        return None

    def _note(self, event: Started | UsageSeen | Vectors) -> None:
        self.heard.note(event)
        if isinstance(event, Started):
            self.opened.ticket.heard(event.headers)
        elif isinstance(event, Vectors):
            self._moved()

    def _moved(self) -> None:
        now = self.job.deps.clock.now()
        if self._first_at is None:
            self._first_at = now
            first_s = (now - self._began_at).total_seconds()
            gauges.first_token(self.opened.attempt.record, first_s)
            self.opened.ticket.began()
        self.moved_at = now

    async def _take(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            self.heard.answer.add(piece)
            if self.heard.answer.weight > self._weight_max:
                raise VendorError(_endless(self.candidate.vendor, self._weight_max))
            await self._tell(self.gate.take(piece))

    async def _tell(self, pieces: tuple[Piece, ...]) -> None:
        if not self.gate.is_open or self._is_muted:
            return
        if not self._may_tell(self):
            self._is_muted = True
            return
        for piece in pieces:
            await _forward(self.job, piece, self.candidate)

    def _settlement(self, ending: Ending) -> Settlement:
        request, policy = self.choice.request, self.candidate.abort
        match ending:
            case Answered(done):
                found = settlement.completed(request, self.heard, done)
            case Broken(failure):
                found = settlement.failed(request, self.heard, failure)
            case Stopped(end_state) if not self._is_sent:
                return settlement.unsent(end_state)
            case Stopped(end_state):
                return settlement.stopped(request, self.heard, end_state, policy)
            case _:
                assert_never(ending)
        # Read on to its end after nobody waited: its usage is whole all the same.
        return (
            found if self.stopped is None else settlement.unwanted(found, self.stopped)
        )

    def _measure(self, ending: Ending, settled: Settlement) -> None:
        now = self.job.deps.clock.now()
        first_s = None
        if self._first_at is not None:
            first_s = (self._first_at - self._began_at).total_seconds()
        whole_s = (now - self._began_at).total_seconds()
        gauges.ended(self.opened.attempt.record, settled, first_s, whole_s)
        if isinstance(ending, Broken):
            gauges.broken(ending.failure)


def _endless(vendor: str, weight_max: int) -> Failure:
    detail = (
        f"{vendor} did not end its answer within {weight_max:,} characters: ask for "
        "less, or set output_tokens_max"
    )
    return Failure(FailureKind.ENDLESS, detail)


async def _forward(job: Job, piece: Piece, by: Candidate) -> None:
    job.running.publish(piece, by)
    if not job.caller.wants_deltas:
        return
    delta = delta_of(piece)
    if delta is not None:
        job.running.delivered = True
        await job.caller.delta(delta, by)
