"""
The broker's transactions: each is one commit, decided by the domain.

``claim`` and ``open_attempt`` commit the intent before a vendor is called;
``close_attempt``, ``close_answered`` and ``close_failed`` record what came of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, TypeVar

from ai_broker.domain import attempt as attempts
from ai_broker.domain import cache
from ai_broker.domain import completion as completions
from ai_broker.domain.attempt import Attempt, Settlement
from ai_broker.domain.cache import Kept
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.completion import Claim, Granted, Held
from ai_broker.ports import Deps
from ai_broker.ports.store import Work
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
    """
    Claim a completion, giving up the attempts of a dead owner.

    Raises:
        TransientFault: It was pruned at this moment.
    """
    asked = (request, digest, deps.instance, now, deps.limits.lease)
    # Most are asked once, so the row is inserted before anybody looks for it.
    fresh = completions.claim(None, *asked)
    if isinstance(fresh, Granted) and work.add_completion(fresh.held):
        return fresh
    key = (request.tenant, request.completion_id)
    found = work.completion(*key)
    if found is None:
        raise TransientFault(f"claim {request.completion_id}: pruned; ask again")
    verdict = completions.claim(found, *asked)
    if isinstance(verdict, Granted):
        work.save_completion(verdict.held)
        for each in work.attempts(*key):
            if not each.settled:
                work.settle_attempt(attempts.give_up(each, now))
    return verdict


def known_attempts(work: Work, granted: Granted) -> Sequence[Attempt]:
    """Return the attempts at a completion that was just claimed."""
    if granted.fresh:
        return ()
    return work.attempts(granted.held.tenant, granted.held.completion_id)


def spent(
    work: Work, held: Held, known: Sequence[Attempt], failed: Failed, now: datetime
) -> Failed | None:
    """End a completion that was paid for too often in vain; None while it may go on."""
    if not completions.is_spent(each.record.usage.total for each in known):
        return None
    told = failed.model_copy(update={"attempts": _summaries(known)})
    work.save_completion(completions.failed(held, told, now))
    return told


def open_attempt(work: Work, opened: Attempt) -> None:
    """
    Insert the attempt that is about to be dispatched, with what it may cost.

    Raises:
        TransientFault: The lease that it was reserved under has been returned.
    """
    record = opened.record
    if record.lease_id is not None and not work.lends(record.lease_id):
        detail = f"reserve for {record.attempt_id}: its lease was returned; ask again"
        raise TransientFault(detail)
    work.add_attempt(opened)


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
    current = _current(work, opened)
    settled = None if current is None else attempts.settle(current, settlement, now)
    if settled is not None:
        work.save_attempt(settled)


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
        work.settle_attempt(attempts.give_up(current, now))


def _current(work: Work, opened: Attempt) -> Attempt | None:
    record = opened.record
    known = work.attempts(record.tenant, record.completion_id)
    same = (each for each in known if each.record.attempt_id == record.attempt_id)
    return next(same, None)


def close_answered(
    work: Work,
    held: Held,
    opened: Attempt,
    settlement: Settlement,
    answer: Completion,
    now: datetime,
    *,
    is_only: bool = False,
) -> Completion | None:
    """
    Settle the attempt and store its answer; None when the claim was lost.

    ``is_only`` says that the completion has certainly no other attempt.
    """
    known: Sequence[Attempt] = ()
    if not is_only:
        known = work.attempts(held.tenant, held.completion_id)
    settled = attempts.settled(opened, settlement, now)
    told = {"attempts": _summaries(_with(settled, known))}
    answer = answer.model_copy(update=told)
    is_mine = work.end_completion(completions.answered(held, answer, now))
    if not work.settle_attempt(settled):
        close_attempt(work, opened, settlement, now)
    return answer if is_mine else None


def keep(
    work: Work, request: CompletionRequest, answer: Completion, candidate: Candidate
) -> None:
    """Keep an answer for equal questions, if its asker takes kept answers too."""
    if request.cache_ttl_s is not None and cache.is_keepable(answer):
        work.keep_answer(request, answer, candidate)


def give_again(work: Work, held: Held, kept: Kept, now: datetime) -> Completion:
    """End a claimed completion with an earlier answer: no attempt, no ledger line."""
    known = work.attempts(held.tenant, held.completion_id)
    answer = cache.given_again(kept, held, _summaries(known), now)
    work.save_completion(completions.answered(held, answer, now))
    return answer


def close_failed(
    work: Work, held: Held, failed: Failed, now: datetime
) -> Failed | None:
    """End the completion without an answer; None when the claim is lost."""
    found = work.completion(held.tenant, held.completion_id)
    if found is None or not completions.is_mine(found, held.fence):
        return None
    known = work.attempts(held.tenant, held.completion_id)
    told = failed.model_copy(update={"attempts": _summaries(known)})
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
    work.save_attempt(attempts.give_up(still, now))
    if found is not None and completions.is_mine(found, still.fence):
        known = work.attempts(*key)
        told = failed.model_copy(update={"attempts": _summaries(known)})
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


def _with(settled: Attempt, known: Sequence[Attempt]) -> Sequence[Attempt]:
    """Return the attempts of a completion, this one of them as it is now."""
    own = settled.record.attempt_id
    others = [each for each in known if each.record.attempt_id != own]
    return sorted((*others, settled), key=lambda each: each.record.attempt_number)


def _summaries(known: Sequence[Attempt]) -> tuple[AttemptSummary, ...]:
    return tuple(attempts.summary(each) for each in known[-TOLD_MAX:])
