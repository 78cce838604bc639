"""
The broker's transactions: each is one commit, decided by the domain.

``claim`` and ``open_attempt`` commit the intent before a vendor is called;
``close_attempt``, ``close_answered`` and ``close_failed`` record what came of it.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final, TypeVar

from ai_broker.domain import attempt as attempts
from ai_broker.domain import cache, estimation
from ai_broker.domain import completion as completions
from ai_broker.domain.attempt import Attempt, Settlement
from ai_broker.domain.budget import Reservation
from ai_broker.domain.cache import Kept
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.completion import Claim, Granted, Held
from ai_broker.domain.settlement import Heard
from ai_broker.domain.vendor import Done
from ai_broker.ports import Deps, Work
from contracts.completions import AttemptSummary, Completion, CompletionRequest
from contracts.frames import Failed
from determinism import backoff_s
from faults import TransientFault

T = TypeVar("T")

TOLD_MAX: Final = 100
"""Attempts that one answer tells of; a long outage makes more."""


def claim(
    work: Work, request: CompletionRequest, digest: str, deps: Deps, now: datetime
) -> Claim:
    """Claim a completion, giving up the attempts of a dead owner."""
    key = (request.tenant, request.completion_id)
    found = work.completion(*key)
    lease = deps.limits.lease
    verdict = completions.claim(found, request, digest, deps.instance, now, lease)
    if not isinstance(verdict, Granted):
        return verdict
    if not verdict.fresh:
        work.save_completion(verdict.held)
        for each in work.attempts(*key):
            if not each.settled:
                _record(work, attempts.give_up(each, now))
    elif not work.add_completion(verdict.held):
        # Another replica inserted the row after our look: it holds the claim.
        found = work.completion(*key)
        return completions.claim(found, request, digest, deps.instance, now, lease)
    return verdict


def spent(work: Work, held: Held, failed: Failed, now: datetime) -> Failed | None:
    """End a completion that was paid for too often in vain; None while it may go on."""
    known = work.attempts(held.tenant, held.completion_id)
    if not completions.is_spent(each.record.usage.total for each in known):
        return None
    told = failed.model_copy(update={"attempts": _summaries(work, held)})
    work.save_completion(completions.failed(held, told, now))
    return told


def open_attempt(
    work: Work,
    request: CompletionRequest,
    candidate: Candidate,
    held: Held,
    *,
    attempt_id: str,
    deadline: datetime,
    now: datetime,
    reservation: Reservation | None = None,
) -> Attempt:
    """
    Insert the attempt that is about to be dispatched, with what it may cost.

    Raises:
        TransientFault: The lease that it was reserved under has been returned.
    """
    if reservation is not None and not work.lends(reservation.lease_id):
        detail = f"reserve for {attempt_id}: its lease was returned; ask again"
        raise TransientFault(detail)
    known = work.attempts(held.tenant, held.completion_id)
    record = attempts.dispatch(
        request,
        candidate,
        attempt_id=attempt_id,
        number=1 + max((each.record.attempt_number for each in known), default=0),
        assumed=estimation.unheard(request),
        now=now,
        lease_id=None if reservation is None else reservation.lease_id,
    )
    reserved = 0 if reservation is None else reservation.pico_usd
    opened = Attempt(record, held.fence, deadline, reserved_pico_usd=reserved)
    work.add_attempt(opened)
    return opened


def still_mine(work: Work, held: Held) -> bool:
    """Tell whether a claim still counts, so that another attempt may be made."""
    found = work.completion(held.tenant, held.completion_id)
    return completions.is_mine(found, held.fence)


def close_attempt(
    work: Work, opened: Attempt, settlement: Settlement, now: datetime
) -> None:
    """Settle an attempt; if it was given up meanwhile, by a higher revision."""
    # The completion's lock first: a take-over at this moment must not settle the
    # same attempt with another record of the same revision.
    work.completion(opened.record.tenant, opened.record.completion_id)
    _close(work, opened, settlement, now)


def postpone(work: Work, opened: Attempt, until: datetime) -> None:
    """Let an attempt be read on after its completion has ended."""
    work.completion(opened.record.tenant, opened.record.completion_id)
    current = _current(work, opened)
    if current is not None and not current.settled:
        work.save_attempt(replace(current, deadline=until))


def give_up(work: Work, opened: Attempt, now: datetime) -> None:
    """Record an attempt as unknown, unless its end is known already."""
    work.completion(opened.record.tenant, opened.record.completion_id)
    current = _current(work, opened)
    if current is not None and not current.settled:
        _record(work, attempts.give_up(current, now))


def _current(work: Work, opened: Attempt) -> Attempt | None:
    record = opened.record
    known = work.attempts(record.tenant, record.completion_id)
    same = (each for each in known if each.record.attempt_id == record.attempt_id)
    return next(same, None)


def _close(work: Work, opened: Attempt, settlement: Settlement, now: datetime) -> None:
    current = _current(work, opened)
    settled = None if current is None else attempts.settle(current, settlement, now)
    if settled is not None:
        _record(work, settled)


def close_answered(
    work: Work,
    held: Held,
    opened: Attempt,
    settlement: Settlement,
    heard: Heard,
    done: Done,
    now: datetime,
    *,
    dropped: tuple[str, ...] = (),
) -> Completion | None:
    """Settle the attempt and store its answer; None when the claim was lost."""
    found = work.completion(held.tenant, held.completion_id)
    _close(work, opened, settlement, now)
    if found is None or not completions.is_mine(found, held.fence):
        return None
    answer = Completion(
        completion_id=held.completion_id,
        vendor=opened.record.vendor,
        model=settlement.model or opened.record.model,
        parts=heard.answer.parts(),
        vectors=heard.answer.vectors(),
        finish_reason=done.finish_reason,
        usage=settlement.usage,
        attempts=_summaries(work, held),
        service_tier=settlement.service_tier,
        stop_sequence=done.stop_sequence,
        logprobs=done.logprobs,
        dropped=dropped,
        created_at=now,
    )
    work.save_completion(completions.answered(found, answer, now))
    return answer


def keep(
    work: Work, request: CompletionRequest, answer: Completion, candidate: Candidate
) -> None:
    """Keep an answer for equal questions, if its asker takes kept answers too."""
    if request.cache_ttl_s is not None and cache.is_keepable(answer):
        work.keep_answer(request, answer, candidate)


def give_again(work: Work, held: Held, kept: Kept, now: datetime) -> Completion:
    """End a claimed completion with an earlier answer: no attempt, no ledger line."""
    answer = cache.given_again(kept, held, _summaries(work, held), now)
    work.save_completion(completions.answered(held, answer, now))
    return answer


def close_failed(
    work: Work, held: Held, failed: Failed, now: datetime
) -> Failed | None:
    """End the completion without an answer; None when the claim is lost."""
    found = work.completion(held.tenant, held.completion_id)
    if found is None or not completions.is_mine(found, held.fence):
        return None
    told = failed.model_copy(update={"attempts": _summaries(work, held)})
    work.save_completion(completions.failed(found, told, now))
    return told


def abandon(work: Work, lost: Attempt, failed: Failed, now: datetime) -> None:
    """Record an attempt that nobody will settle, and end its completion."""
    key = (lost.record.tenant, lost.record.completion_id)
    found = work.completion(*key)
    if found is not None and found.until > now:
        return
    current = {each.record.attempt_id: each for each in work.attempts(*key)}
    still = current.get(lost.record.attempt_id)
    if still is None or still.settled:
        return
    _record(work, attempts.give_up(still, now))
    if found is not None and completions.is_mine(found, still.fence):
        told = failed.model_copy(update={"attempts": _summaries(work, found)})
        work.save_completion(completions.failed(found, told, now))


async def commit(deps: Deps, transaction: Callable[[Work], T]) -> T:
    """
    Commit what was paid for, insisting a while when the store does not take it.

    Raises:
        TransientFault: The store took it in none of the tries; the claim will
            expire and the attempt be recorded as unknown.
    """
    for tried in range(1, deps.limits.commit_tries):
        try:
            return await deps.store.run(transaction)
        except TransientFault:
            draw = deps.ids.uniform()
            wait_s = backoff_s(tried, first_s=0.1, cap_s=2.0, draw=draw)
            await deps.clock.sleep(wait_s)
    return await deps.store.run(transaction)


def _record(work: Work, settled: Attempt) -> None:
    work.save_attempt(settled)


def _summaries(work: Work, held: Held) -> tuple[AttemptSummary, ...]:
    known = work.attempts(held.tenant, held.completion_id)
    return tuple(attempts.summary(each) for each in known[-TOLD_MAX:])
