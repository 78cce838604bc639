"""
Use case, the second half: attempts at a claimed completion, until one ends it.

Each attempt is committed before its call and settled after it; ``routing`` decides
what follows a failed one.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, assert_never

from ai_broker.domain import routing
from ai_broker.domain.attempt import Attempt, Settlement
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.completion import Held
from ai_broker.handlers import books
from ai_broker.handlers.call import (
    Answered,
    Broken,
    Cancelled,
    Choice,
    Ending,
    Expired,
    Job,
    call,
    watched,
)
from ai_broker.handlers.caller import Caller, failure
from ai_broker.handlers.desk import Desk, End
from ai_broker.ports import Work
from contracts.completions import Completion, CompletionRequest
from contracts.frames import Failed, Finished
from contracts.problems import Code


@dataclass(frozen=True)
class Begun:
    """The claim is ours and the first attempt is on disk."""

    held: Held
    opened: Attempt
    choices: tuple[Choice, ...]


async def run(
    request: CompletionRequest,
    begun: Begun,
    caller: Caller,
    deadline: datetime,
    desk: Desk,
) -> End | None:
    """Run attempts to an end; None when the claim was lost to another replica."""
    with desk.entry((request.tenant, request.completion_id)) as running:
        await caller.opened(desk.deps.instance)
        job = Job(
            request=request,
            choices=begun.choices,
            held=begun.held,
            running=running,
            caller=caller,
            deadline=deadline,
            deps=desk.deps,
        )
        end = await _round(job, begun.opened)
        running.finish(end)
        return end


async def _round(job: Job, opened: Attempt) -> End | None:
    candidates = [each.candidate for each in job.choices]
    move: routing.Move = routing.first_move(candidates)
    attempt: Attempt | None = opened
    tried: list[routing.Tried] = []
    for _ in range(routing.CALLS_MAX):
        if isinstance(move, routing.GiveUp) or attempt is None:
            break
        choice = job.choices[move.candidate]
        ending, settled = await call(job, attempt, choice)
        if isinstance(ending, Answered):
            return await _finish(job, attempt, settled, ending, choice.candidate)
        move = _after(job, ending, move.candidate, tried)
        if isinstance(move, routing.GiveUp):
            return await _fail(job, attempt, settled, move)
        await _settle(job, attempt, settled)
        attempt = await _next_attempt(job, move)
    if job.running.cancelled:
        return await _fail(job, None, None, _CANCELLED)
    return None


def _after(
    job: Job, ending: Ending, candidate: int, tried: list[routing.Tried]
) -> routing.Move:
    """Note a failed call and decide what follows."""
    deps = job.deps
    match ending:
        case Broken(failed):
            now = deps.clock.now()
            before = sum(each.candidate == candidate for each in tried)
            verdict = routing.judge(failed, before, deps.ids.uniform(), now)
            tried.append(routing.Tried(candidate, now, verdict, failed))
            if not job.running.delivered:
                job.running.forget()
            return routing.next_move(
                [each.candidate for each in job.choices],
                tried,
                now,
                job.deadline,
                delivered=job.running.delivered,
            )
        case Expired():
            detail = "the vendor had not finished at the deadline: allow more time"
            return routing.GiveUp(Code.DEADLINE, detail, retryable=True)
        case Cancelled():
            return _CANCELLED
        case Answered():
            message = "an answered call is not followed by another"
            raise ValueError(message)
        case _:
            assert_never(ending)


async def _finish(
    job: Job,
    attempt: Attempt,
    settled: Settlement,
    ending: Answered,
    candidate: Candidate,
) -> End | None:
    now = job.deps.clock.now()

    def transaction(work: Work) -> Completion | None:
        answer = books.close_answered(
            work,
            job.held,
            attempt,
            settled,
            ending.heard,
            ending.done,
            now,
            dropped=ending.dropped,
        )
        if answer is not None:
            books.keep(work, job.request, answer, candidate)
        return answer

    answer = await books.commit(job.deps, transaction)
    return None if answer is None else Finished(completion=answer)


async def _fail(
    job: Job,
    attempt: Attempt | None,
    settled: Settlement | None,
    why: routing.GiveUp,
) -> Failed | None:
    now = job.deps.clock.now()
    failed = failure(
        why.code,
        why.detail,
        retryable=why.retryable,
        retry_after_s=why.retry_after_s,
    )
    return await books.commit(
        job.deps,
        lambda work: books.close_failed(work, job.held, attempt, settled, failed, now),
    )


async def _settle(job: Job, attempt: Attempt, settled: Settlement) -> None:
    now = job.deps.clock.now()
    await books.commit(
        job.deps, lambda work: books.close_attempt(work, attempt, settled, now)
    )


async def _next_attempt(job: Job, move: routing.Call) -> Attempt | None:
    """Wait, then open an attempt; None when cancelled or the claim was lost."""
    deps = job.deps
    await watched(job, deps.clock.sleep(move.delay_s))
    if job.running.cancelled:
        return None
    now, attempt_id = deps.clock.now(), deps.ids.new("attempt")

    def transaction(work: Work) -> Attempt | None:
        if not books.still_mine(work, job.held):
            return None
        return books.open_attempt(
            work,
            job.request,
            job.choices[move.candidate].candidate,
            job.held,
            attempt_id=attempt_id,
            deadline=job.deadline,
            now=now,
        )

    return await deps.store.run(transaction)


_CANCELLED: Final = routing.GiveUp(
    Code.CANCELLED, "the caller cancelled the completion", retryable=False
)
