"""
Use case: answer a completion, paying for it once.

    claim ──► stored: replay it
          ├─► busy: join, here by memory, elsewhere by the store, then claim again
          ├─► mismatch: refuse
          ├─► granted, and an equal question's answer is kept: give it again
          └─► granted: attempts, each committed before its call, until an end

The claim and the first attempt are one commit, when somebody can be called at once.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Final, assert_never

import telemetry
from ai_broker.domain import cache
from ai_broker.domain import completion as completions
from ai_broker.domain.cache import Kept
from ai_broker.domain.completion import (
    Busy,
    Granted,
    Mismatch,
    State,
    Stored,
)
from ai_broker.handlers import books, dispatch, ordering, rounds
from ai_broker.handlers.call import Route
from ai_broker.handlers.caller import Caller, failure
from ai_broker.handlers.desk import Desk
from ai_broker.handlers.equip import equipped
from ai_broker.handlers.ordering import Unroutable
from ai_broker.handlers.rounds import Begun
from ai_broker.handlers.running import End
from ai_broker.ports import Deps
from ai_broker.ports.store import Work
from contracts.completions import Completion, CompletionRequest
from contracts.frames import Failed
from contracts.problems import Code
from faults import TransientFault
from messaging.subscriptions import FrameSink

log = telemetry.get_logger()

CLAIMS_MAX: Final = 1_000
MARGIN_MAX: Final = timedelta(seconds=0.5)


Outcome = Stored | Busy | Mismatch | Begun | Unroutable | Failed | None


async def complete(request: CompletionRequest, sink: FrameSink, desk: Desk) -> None:
    """Answer with frames; the last is ``Finished`` or ``Failed``."""
    desk = await equipped(desk, request.tenant)
    deps = desk.deps
    caller = Caller(request, sink)
    digest = completions.digest_of(request)
    deadline = _deadline(request, deps)
    route = await ordering.route_of(request, desk)
    for _ in range(CLAIMS_MAX):
        verdict = await _claim(request, digest, route, deadline, desk)
        match verdict:
            case Stored(answer):
                return await caller.replay(answer, deps.instance)
            case Mismatch():
                detail = "the completion id was used for another request: use a new one"
                return await caller.refuse(Code.CONFLICT, detail, deps.instance)
            case Unroutable(code, detail):
                return await caller.refuse(code, detail, deps.instance)
            case Busy():
                ended = await _join(request, verdict, caller, deadline, desk)
            case Begun():
                ended = await rounds.run(request, verdict, caller, deadline, desk)
            case Failed():
                ended = verdict
            case None:
                ended = _late()
            case _:
                assert_never(verdict)
        if ended is not None:
            await caller.opened(deps.instance)
            return await caller.end(ended)
    return await caller.end(_late())


def _deadline(request: CompletionRequest, deps: Deps) -> datetime:
    """Return when to stop: early enough that the caller still hears why."""
    now = deps.clock.now()
    margin = min((request.deadline - now) / 20, MARGIN_MAX)
    longest = now + timedelta(seconds=deps.limits.call_max_s)
    return min(request.deadline - margin, longest)


async def _claim(
    request: CompletionRequest,
    digest: str,
    route: Route | Unroutable,
    deadline: datetime,
    desk: Desk,
) -> Outcome:
    """Claim and open the first attempt in one commit; None past the deadline."""
    deps = desk.deps
    now = deps.clock.now()
    kept = await _kept(request, route, now, deps)
    first = None
    if not isinstance(route, Unroutable):
        first = dispatch.admit_first(route, deadline, desk.board, desk.purse, deps)

    def transaction(work: Work) -> Outcome:
        if isinstance(route, Unroutable) or now >= deadline:
            return _unbegun(work, request, digest, route)
        verdict = books.claim(work, request, digest, deps, now)
        if not isinstance(verdict, Granted):
            return verdict
        if kept is not None:
            given = books.give_again(work, verdict.held, kept, now)
            return Stored(given, given_now=True)
        known = books.known_attempts(work, verdict)
        spent = books.spent(work, verdict.held, known, _SPENT, now)
        if spent is not None:
            return spent
        if first is None:
            return Begun(verdict.held, None, route)
        opened = dispatch.open_admitted(work, verdict.held, known, first, deadline, now)
        return Begun(verdict.held, opened, route)

    outcome: Outcome = None
    try:
        with dispatch.money_of(first, desk.purse) as taken:
            outcome = await deps.store.run(transaction)
            taken.is_kept = isinstance(outcome, Begun)
    finally:
        if first is not None and not isinstance(outcome, Begun):
            first.ticket.release()
    if isinstance(outcome, Stored) and outcome.given_now:
        _count_hit(request, outcome.answer)
    return outcome


def _unbegun(
    work: Work, request: CompletionRequest, digest: str, route: Route | Unroutable
) -> Outcome:
    """Begin nothing, but tell what is stored."""
    found = work.completion(request.tenant, request.completion_id)
    if found is not None and found.digest == digest and found.answer:
        return Stored(found.answer)
    return route if isinstance(route, Unroutable) else None


async def _kept(
    request: CompletionRequest,
    route: Route | Unroutable,
    now: datetime,
    deps: Deps,
) -> Kept | None:
    """Return an equal question's answer that this request takes."""
    since = cache.oldest(request, now)
    if since is None or isinstance(route, Unroutable):
        return None
    try:
        kept = await deps.cache.find(request, since)
    except TransientFault as fault:
        log.warning("cache_not_asked", tenant=request.tenant, detail=fault.detail)
        return None
    is_taken = kept is not None and cache.may_answer(kept, list(route.candidates))
    return kept if is_taken else None


def _count_hit(request: CompletionRequest, answer: Completion) -> None:
    """Count a hit; being no attempt, it leaves no other trace but the answer's mark."""
    vendor, model = answer.vendor, answer.model
    telemetry.metrics.ai_cache_hits_total.add(1, vendor=vendor, model=model)
    log.info(
        "answer_given_again",
        tenant=request.tenant,
        completion_id=request.completion_id,
        vendor=vendor,
        model=model,
    )


async def _join(
    request: CompletionRequest,
    busy: Busy,
    caller: Caller,
    deadline: datetime,
    desk: Desk,
) -> End | None:
    """Wait for another's answer; None when it is time to claim again."""
    deps = desk.deps
    await caller.opened(busy.owner)
    left_s = (deadline - deps.clock.now()).total_seconds()
    running = desk.running.get((request.tenant, request.completion_id))
    if running is not None:
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                async for delta in running.follow(deltas=caller.wants_deltas):
                    await caller.delta(delta, running.by)
        except TimeoutError:
            return _late()
        return running.end
    while deps.clock.now() < deadline:
        await deps.clock.sleep(deps.limits.poll_s)
        found = await deps.store.read(
            lambda work: work.completion(request.tenant, request.completion_id)
        )
        if found is None or found.state is State.ANSWERED:
            return None
        if found.failure is not None:
            return found.failure
        if found.until <= deps.clock.now():
            return None
    return _late()


_SPENT: Final = failure(
    Code.VENDOR_UNAVAILABLE,
    f"vendors were paid {completions.PAID_MAX} times and no answer came through: look "
    "at this completion's attempts, then ask with a new id",
)


def _late() -> Failed:
    detail = "there was no answer at the deadline: ask again, with more time"
    return failure(Code.DEADLINE, detail, retryable=True)
