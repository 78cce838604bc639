"""
Use case, the second half: attempts at a claimed completion, until one ends it.

Each attempt is committed before its call and settled after it; ``routing`` decides
what follows a failed one, ``race`` performs it, and the claim is kept alive meanwhile.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, assert_never

import telemetry
from ai_broker.domain import routing
from ai_broker.domain.completion import Held
from ai_broker.domain.routing import GiveUp
from ai_broker.domain.verdict import reason_of
from ai_broker.handlers import books
from ai_broker.handlers.call import Job, Opened, Route
from ai_broker.handlers.caller import Caller, failure
from ai_broker.handlers.desk import Desk
from ai_broker.handlers.dispatch import dispatch
from ai_broker.handlers.drains import Drains
from ai_broker.handlers.race import Over, Won, race
from ai_broker.handlers.running import End
from ai_broker.ports.store import Work
from contracts.completions import Completion, CompletionRequest
from contracts.frames import Failed, Finished
from contracts.problems import Code
from contracts.usage import EndState
from faults import TransientFault

LOOKS_MAX: Final = 1_000
"""Waits of one round; each is as long as somebody's pace or breaker says."""

log = telemetry.get_logger()


@dataclass(frozen=True)
class Begun:
    """The claim is ours; the first attempt is on disk, unless it has to wait."""

    held: Held
    opened: Opened | None
    route: Route


async def run(
    request: CompletionRequest,
    begun: Begun,
    caller: Caller,
    deadline: datetime,
    desk: Desk,
) -> End | None:
    """Run attempts to an end; None when the claim was lost to another replica."""
    with desk.entry((request.tenant, request.completion_id)) as running:
        job = Job(
            request=request,
            route=begun.route,
            held=begun.held,
            running=running,
            caller=caller,
            deadline=deadline,
            deps=desk.deps,
            board=desk.board,
            purse=desk.purse,
        )
        try:
            await caller.opened(desk.deps.instance)
            async with _kept_claim(job):
                end = await _round(job, begun.opened, desk.drains)
        finally:
            if begun.opened is not None:
                # However this ended: a probe that is never told stays out for ever.
                begun.opened.ticket.release()
        running.finish(end)
        return end


async def _round(job: Job, opened: Opened | None, drains: Drains) -> End | None:
    """Make one move after the other; a call that failed has been settled."""
    for _ in range(routing.CALLS_MAX + 1):
        if opened is None:
            move = await _next(job)
            if not isinstance(move, Opened):
                return None if move is None else await _fail(job, move)
            opened = move
        result = await race(job, opened, drains)
        match result:
            case Won():
                return await _finish(job, result)
            case Over(EndState.CANCELLED):
                return await _fail(job, _CANCELLED)
            case Over():
                return await _fail(job, _LATE)
            case None:
                opened = None
                if not job.running.delivered:
                    job.running.forget()
            case _:
                assert_never(result)
    message = "a round must end within its bound of calls"
    raise AssertionError(message)


async def _next(job: Job) -> Opened | GiveUp | None:
    """Wait as long as must be, then open an attempt; None when the claim is lost."""
    candidates, began = job.route.candidates, job.deps.clock.now()
    for _ in range(LOOKS_MAX):
        if job.running.cancelled:
            return _CANCELLED
        now = job.deps.clock.now()
        outlooks = job.board.outlooks(candidates, job.route.tokens)
        move = routing.next_move(
            candidates,
            outlooks,
            job.tried,
            now,
            job.deadline,
            delivered=job.running.delivered,
            waited_s=(now - began).total_seconds(),
        )
        if isinstance(move, GiveUp):
            return move
        if move.delay_s > 0:
            candidate = candidates[move.candidate]
            if outlooks[move.candidate].ready_in_s > routing.AT_ONCE_S:
                labels = {"vendor": candidate.vendor, "model": candidate.model}
                waits = telemetry.metrics.ai_pacing_wait_seconds
                waits.record(move.delay_s, **labels)
            await _unless_cancelled(job, job.deps.clock.sleep(move.delay_s))
            continue
        _count(job, move.candidate)
        return await dispatch(job, move.candidate)
    return _LATE


def _count(job: Job, place: int) -> None:
    """Count a call that follows a failed one."""
    if not job.tried:
        return
    last = job.tried[-1]
    candidates = job.route.candidates
    vendor = candidates[last.candidate].vendor
    reason = reason_of(last.failure, last.verdict)
    metrics = telemetry.metrics
    if last.candidate == place:
        metrics.ai_retries_total.add(1, vendor=vendor, reason=reason)
        return
    metrics.ai_failovers_total.add(1, vendor=vendor, reason=reason)
    log.info(
        "completion_failed_over",
        completion_id=job.request.completion_id,
        vendor=vendor,
        reason=reason,
        next_vendor=candidates[place].vendor,
    )


async def _finish(job: Job, won: Won) -> End | None:
    """Commit the answer with its settlement."""
    now, call = job.deps.clock.now(), won.call
    found = _answer(job, won, now)

    def transaction(work: Work) -> Completion | None:
        answer = books.close_answered(
            work,
            job.held,
            call.opened.attempt,
            won.settled,
            found,
            now,
            is_only=_is_only(job, call.opened),
        )
        if answer is not None:
            books.keep(work, job.request, answer, call.candidate)
        return answer

    answer = await books.commit(job.deps, transaction)
    return None if answer is None else Finished(completion=answer)


def _answer(job: Job, won: Won, now: datetime) -> Completion:
    """Return what the vendor answered; the attempts are told when it is stored."""
    heard, done, settled = won.call.heard.answer, won.ending.done, won.settled
    record = won.call.opened.attempt.record
    return Completion(
        completion_id=job.held.completion_id,
        vendor=record.vendor,
        model=settled.model or record.model,
        parts=heard.parts(),
        vectors=heard.vectors(),
        finish_reason=done.finish_reason,
        usage=settled.usage,
        attempts=(),
        service_tier=settled.service_tier,
        stop_sequence=done.stop_sequence,
        logprobs=done.logprobs,
        dropped=won.call.choice.prepared.dropped,
        created_at=now,
    )


def _is_only(job: Job, opened: Opened) -> bool:
    """Tell whether nobody else can have been called for this completion."""
    is_first = job.held.fence == 1 and opened.attempt.record.attempt_number == 1
    return is_first and job.route.hedge is None


async def _fail(job: Job, why: GiveUp) -> Failed | None:
    """Commit that there is no answer."""
    now = job.deps.clock.now()
    failed = failure(
        why.code,
        why.detail,
        retryable=why.retryable,
        retry_after_s=why.retry_after_s,
    )
    return await books.commit(
        job.deps, lambda work: books.close_failed(work, job.held, failed, now)
    )


# Any: what a coroutine yields and is sent is asyncio's business.
async def _unless_cancelled(job: Job, waiting: Coroutine[Any, Any, None]) -> None:
    """Wait, but not on after the caller has cancelled."""
    # tidy: owned by this function, which waits for its end
    task = asyncio.create_task(waiting, name="pause")
    try:
        with job.running.abortable(task.cancel):
            await asyncio.wait((task,))
    finally:
        task.cancel()


@asynccontextmanager
async def _kept_claim(job: Job) -> AsyncGenerator[None]:
    """Keep the claim alive for the block."""
    # tidy: owned by this block, which ends it
    heart = asyncio.create_task(_beat(job), name="claim-heart")
    try:
        yield
    finally:
        heart.cancel()
        await asyncio.wait((heart,))
        if not heart.cancelled() and (error := heart.exception()) is not None:
            # The claim has expired then, and every later commit has seen it.
            log.error("claim_not_kept", exc_info=error)


async def _beat(job: Job) -> None:
    """Renew the lease until cancelled; a lost one shows at the next commit."""
    deps, held = job.deps, job.held
    while True:
        await deps.clock.sleep(deps.limits.heartbeat_s)
        until = deps.clock.now() + timedelta(seconds=deps.limits.lease_s)
        try:
            await deps.store.run(lambda work, until=until: work.renew(held, until))
        except TransientFault as fault:
            log.warning(
                "lease_not_renewed",
                completion_id=held.completion_id,
                detail=fault.detail,
            )


_CANCELLED: Final = GiveUp(
    Code.CANCELLED, "the caller cancelled the completion", retryable=False
)
_LATE: Final = GiveUp(
    Code.DEADLINE,
    "the vendor had not finished at the deadline: allow more time",
    retryable=True,
)
