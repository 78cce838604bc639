"""
One move of a round: a call and, where it is asked for, a second one beside it.

    begin ──► content ──────► it has won: the others are given up, it runs to its end
       │  ──► failure ──────► settled and noted; the move fails when nobody is left
       │  ──► silence ──────► given up, if somebody else could use the time
       └  ──► hedge is due ─► a second call, committed first like every other

Whatever ends here is settled here, except the answer, whose settlement is committed
together with it. A call that is given up is hung up or read on in the background, as
its vendor's entry in the catalogue says; either way it keeps its ledger line.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import telemetry
from ai_broker.domain import hedging, routing
from ai_broker.domain.attempt import Settlement
from ai_broker.domain.catalogue import Abort
from ai_broker.domain.routing import Tried
from ai_broker.domain.vendor import Failure, FailureKind
from ai_broker.domain.verdict import Again, Spent, Verdict, judge
from ai_broker.handlers import books
from ai_broker.handlers.call import Answered, Broken, Call, Job, Opened, Stopped
from ai_broker.handlers.dispatch import dispatch, worst_cost
from ai_broker.handlers.drains import Drains
from contracts.usage import EndState
from faults import TransientFault

SILENCE_PAUSE_S: Final = 5.0
"""How long a candidate that stayed silent is left alone in this round."""
SICK_SILENCE_S: Final = 10.0
"""A silence that is the vendor's fault, however little time the caller gave."""

log = telemetry.get_logger()


@dataclass(frozen=True)
class Won:
    """An answer is whole; it is not committed yet."""

    call: Call
    ending: Answered
    settled: Settlement


@dataclass(frozen=True)
class Over:
    """Nobody waits any more: cancelled, or past the deadline."""

    end_state: EndState


Result = Won | Over | None
"""None: every call of this move failed, which ``job.tried`` tells."""


@dataclass(eq=False)
class _Entrant:
    """A call at work, and how long it may be silent."""

    call: Call
    task: asyncio.Task[tuple[Answered | Broken | Stopped, Settlement]]
    patience: timedelta | None

    def silent_until(self) -> datetime | None:
        """Return when its silence becomes too long; None if it never does."""
        if self.patience is None or self.call.gate.is_open:
            return None
        return self.call.moved_at + self.patience


async def race(job: Job, opened: Opened, drains: Drains) -> Result:
    """Run one move to its end."""
    running = _Race(job, drains)
    try:
        running.begin(opened)
        with job.running.abortable(running.bell.set):
            return await running.until_over()
    finally:
        await running.leave()


class _Race:
    """The calls of one move."""

    def __init__(self, job: Job, drains: Drains) -> None:
        self.bell = asyncio.Event()
        self._job = job
        self._drains = drains
        self._clock = job.deps.clock
        self._entrants: list[_Entrant] = []
        self._winner: Call | None = None
        self._hedge_at: datetime | None = None

    def begin(self, opened: Opened) -> None:
        """Start a call."""
        call = Call(self._job, opened, self._may_tell)
        # tidy: owned by this race, which stops it or hands it to the desk's drains
        task = asyncio.create_task(call.run(), name="vendor-call")
        task.add_done_callback(lambda _: self.bell.set())
        if not self._entrants:
            self._hedge_at = self._hedge_time(opened)
        self._entrants.append(_Entrant(call, task, self._patience(opened)))

    async def until_over(self) -> Result:
        """Wait for the move's end."""
        while True:
            self.bell.clear()
            over = await self._look()
            if over is not None:
                return over
            if not self._entrants:
                return None
            await self._rest()

    async def leave(self) -> None:
        """Hang up whatever is left, as when this process is told to stop."""
        for each in self._entrants:
            each.task.cancel()
            each.call.opened.ticket.release()
        if self._entrants:
            await asyncio.wait([each.task for each in self._entrants])

    async def _look(self) -> Won | Over | None:
        """Do what is due."""
        for each in [one for one in self._entrants if one.task.done()]:
            won = await self._ended(each)
            if won is not None:
                return won
        if self._job.running.cancelled:
            return await self._stop_all(EndState.CANCELLED)
        now = self._clock.now()
        if now >= self._job.deadline and self._entrants:
            return await self._stop_all(EndState.TIMED_OUT)
        if self._winner is not None:
            await self._give_up_losers()
        else:
            await self._give_up_silent(now)
            await self._hedge(now)
        return None

    async def _ended(self, entrant: _Entrant) -> Won | None:
        ending, settled = entrant.task.result()
        call = entrant.call
        if isinstance(ending, Answered) and self._may_tell(call):
            await self._give_up_losers()
            self._entrants.remove(entrant)
            call.opened.ticket.answered()
            return Won(call, ending, settled)
        match ending:
            case Broken(failure):
                self._note(call, failure)
            case Answered():
                call.opened.ticket.answered()
            case Stopped():
                call.opened.ticket.release()
        if self._winner is call:
            self._winner = None
        await self._settle(call, settled)
        self._entrants.remove(entrant)
        return None

    def _note(
        self, call: Call, failure: Failure, verdict: Verdict | None = None
    ) -> None:
        """Remember a failure: this round by its verdict, the process on the board."""
        job, place, now = self._job, call.opened.place, self._clock.now()
        if verdict is None:
            before = sum(each.candidate == place for each in job.tried)
            draw, protocol = job.deps.ids.uniform(), call.candidate.protocol
            verdict = judge(failure, before, draw, now, protocol)
        call.opened.ticket.failed(failure, verdict)
        if isinstance(verdict, Spent):
            job.board.exhausted(call.candidate)
        job.tried.append(Tried(place, now, verdict, failure))

    def _may_tell(self, call: Call) -> bool:
        """Let the first call with content win."""
        if self._winner is None:
            self._winner = call
            if len(self._entrants) > 1:
                first = self._entrants[0].call
                _count_hedge(first, "lost" if call is first else "won")
                self.bell.set()
        return self._winner is call

    async def _give_up_losers(self) -> None:
        for each in [one for one in self._entrants if one.call is not self._winner]:
            each.call.opened.ticket.release()
            await self._give_up(each, EndState.CANCELLED)

    async def _give_up_silent(self, now: datetime) -> None:
        for each in tuple(self._entrants):
            until = each.silent_until()
            if until is None or now < until or each.task.done():
                continue
            gone_s = (now - each.call.moved_at).total_seconds()
            detail = f"{each.call.candidate.name} said nothing for {gone_s:.3g} s"
            failure = Failure(FailureKind.SILENT, detail)
            self._note(each.call, failure, Again(SILENCE_PAUSE_S))
            await self._give_up(each, EndState.TIMED_OUT)

    async def _stop_all(self, end_state: EndState) -> Over:
        for each in tuple(self._entrants):
            if end_state is EndState.TIMED_OUT:
                self._blame(each.call)
            each.call.opened.ticket.release()
            await self._give_up(each, end_state)
        return Over(end_state)

    def _blame(self, call: Call) -> None:
        """Call a vendor sick that said nothing until a deadline not too short."""
        silent_s = (self._clock.now() - call.moved_at).total_seconds()
        if call.heard.answer.empty and silent_s >= SICK_SILENCE_S:
            failure = Failure(FailureKind.SILENT, "nothing came until the deadline")
            call.opened.ticket.failed(failure, Again(SILENCE_PAUSE_S))

    async def _give_up(self, entrant: _Entrant, end_state: EndState) -> None:
        """Hang up and settle, or hand over to be read on, as its vendor wants."""
        call = entrant.call
        if call.candidate.abort is Abort.DRAIN and not entrant.task.done():
            call.mute(end_state)
            if await self._drains.adopt(call, entrant.task):
                self._entrants.remove(entrant)
                return
        call.stop(end_state)
        await asyncio.wait((entrant.task,))
        _, settled = entrant.task.result()
        await self._settle(call, settled)
        self._entrants.remove(entrant)

    async def _settle(self, call: Call, settled: Settlement) -> None:
        """Commit what a call that did not answer has cost."""
        now, attempt = self._clock.now(), call.opened.attempt
        try:
            await books.commit(
                self._job.deps,
                lambda work: books.close_attempt(work, attempt, settled, now),
            )
        except TransientFault as fault:
            # It stays open, and the sweep records it as unknown: no reason to break
            # an answer that is on its way.
            attempt_id = attempt.record.attempt_id
            log.warning(
                "attempt_not_settled", attempt_id=attempt_id, detail=fault.detail
            )

    def _patience(self, opened: Opened) -> timedelta | None:
        job, now = self._job, self._clock.now()
        candidates = job.route.candidates
        candidate = candidates[opened.place]
        outlooks = job.board.outlooks(candidates, job.route.tokens)
        left_s = (job.deadline - now).total_seconds()
        others = routing.has_other(
            candidates, outlooks, job.tried, opened.place, now, job.deadline
        )
        usual_s = job.board.latency(candidate).quantile_s(0.95)
        found_s = routing.patience_s(candidate, usual_s, left_s, others=others)
        return None if found_s is None else timedelta(seconds=found_s)

    def _hedge_time(self, opened: Opened) -> datetime | None:
        job = self._job
        if job.route.hedge is None:
            return None
        candidate = job.route.candidates[opened.place]
        latency = job.board.latency(candidate)
        after_s = hedging.delay_s(job.route.hedge, latency)
        if after_s is None:
            return None
        return self._clock.now() + timedelta(seconds=after_s)

    async def _hedge(self, now: datetime) -> None:
        """Make the second call, once, if it is due and its price fits."""
        job, hedge = self._job, self._job.route.hedge
        if hedge is None or self._hedge_at is None or now < self._hedge_at:
            return
        self._hedge_at = None
        if len(self._entrants) != 1:
            return
        first, candidates = self._entrants[0].call, job.route.candidates
        first_cost = worst_cost(job.request, first.candidate, job.deps, now)

        def may(place: int) -> bool:
            extra = worst_cost(job.request, candidates[place], job.deps, now)
            return hedging.is_affordable(hedge, extra, first_cost)

        outlooks = job.board.outlooks(candidates, job.route.tokens)
        running = {first.opened.place}
        move = routing.hedge_move(candidates, outlooks, job.tried, running, now, may)
        if move is None:
            _count_hedge(first, "not-made")
            return
        try:
            opened = await dispatch(job, move.candidate, waits=False)
        except TransientFault as fault:
            log.warning("hedge_not_opened", detail=fault.detail)
            return
        if isinstance(opened, Opened):
            self.begin(opened)
            self.bell.set()

    async def _rest(self) -> None:
        """Sleep until somebody rings or the next thing is due."""
        alarms = [self._job.deadline]
        if self._winner is None:
            until = [each.silent_until() for each in self._entrants]
            alarms.extend(each for each in (*until, self._hedge_at) if each is not None)
        left_s = (min(alarms) - self._clock.now()).total_seconds()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, left_s)):
                await self.bell.wait()


def _count_hedge(call: Call, outcome: str) -> None:
    vendor = call.candidate.vendor
    telemetry.metrics.ai_hedges_total.add(1, vendor=vendor, outcome=outcome)
