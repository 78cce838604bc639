"""
Who is asked next: a candidate now, a candidate after a pause, or nobody.

``policy`` says who is preferred and ``verdict`` what a failure allows; this decides.
A candidate is ready when its last failure's pause, its pace and the memory of an
exhausted account allow a call. The next call goes to whoever is ready first, where a
step down the order counts as much as ``STEP_DOWN_S`` of waiting: a short pause beats
another model, a long one does not.

A candidate whose breaker refuses is passed over while any other could still answer
in time. When all refuse, the one that is due first is waited for, if that is soon and
the deadline allows; else the caller is told when to come back. After a failure, a call
that could not plausibly finish is not begun.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.vendor import Failure
from ai_broker.domain.verdict import (
    RATE_LIMITED,
    Again,
    Nowhere,
    Spent,
    Unfit,
    Verdict,
)
from contracts.problems import Code

CALLS_PER_CANDIDATE: Final = 3
CALLS_MAX: Final = 8
STEP_DOWN_S: Final = 1.0
REFUSED_WAIT_MAX_S: Final = 10.0
"""Longer than this nobody waits for a breaker: callers would pile up behind it."""
AT_ONCE_S: Final = 0.001
"""A wait that is not worth a timer."""
FIRST_TOKEN_MIN_S: Final = 2.0
FIRST_TOKEN_FACTOR: Final = 3.0
"""How many times the 95th percentile a first token may take."""
SHARE_FOR_ONE: Final = 0.5
"""Of the time left, while another candidate could use the rest."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One failed call of this round."""

    candidate: int
    """Its place in the list of candidates."""
    ended_at: datetime
    verdict: Verdict
    failure: Failure


@dataclass(frozen=True, slots=True)
class Outlook:
    """How a candidate stands with this process, beside this round's failures."""

    ready_in_s: float = 0.0
    """Until its pace allows a call."""
    refused_for_s: float | None = None
    """Until its breaker may; None while it does."""
    spent_for_s: float | None = None
    """Until its exhausted account is tried again; None if it is not exhausted."""
    first_token_s: float = 0.0
    """What a first token takes at present; 0 if unknown."""


@dataclass(frozen=True, slots=True)
class Call:
    """Call this candidate after this many seconds."""

    candidate: int
    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody is asked any more."""

    code: Code
    detail: str
    retryable: bool
    retry_after_s: float | None = None


Move = Call | GiveUp


def next_move(
    candidates: Sequence[Candidate],
    outlooks: Sequence[Outlook],
    tried: Sequence[Tried],
    now: datetime,
    deadline: datetime,
    *,
    delivered: bool,
    waited_s: float = 0.0,
) -> Move:
    """
    Decide what follows, at the beginning and after a failure.

    Args:
        candidates: Who may answer, first choice first; at least one.
        outlooks: How each stands.
        tried: This round's failures, oldest first.
        now: The time.
        deadline: The request's.
        delivered: Whether content has reached the caller: then nobody else is
            asked, since two answers must not be spliced into one.
        waited_s: How long this call has been waited for already.
    """
    last = tried[-1] if tried else None
    if last is not None and delivered:
        detail = f"the answer broke off: {last.failure.message}; ask again"
        return GiveUp(Code.STREAM_CUT, detail, retryable=True)
    if last is not None and isinstance(last.verdict, Nowhere):
        return GiveUp(last.verdict.code, last.failure.message, retryable=False)
    waits = _waits(candidates, outlooks, tried, now)
    if len(tried) < CALLS_MAX:
        left_s = (deadline - now).total_seconds()
        is_retry = bool(tried)
        call = _first_ready(waits, outlooks, left_s, refused=False, is_retry=is_retry)
        if call is not None:
            return call
        call = _first_ready(waits, outlooks, left_s, refused=True, is_retry=is_retry)
        if call is not None and waited_s + call.delay_s <= REFUSED_WAIT_MAX_S:
            return call
    return _give_up(waits, outlooks, tried)


def hedge_move(
    candidates: Sequence[Candidate],
    outlooks: Sequence[Outlook],
    tried: Sequence[Tried],
    running: Collection[int],
    now: datetime,
    may: Callable[[int], bool],
) -> Call | None:
    """
    Choose a second candidate beside the running ones; None when nobody is free.

    A hedge is a favour: only who is ready at once is asked, and nobody twice.

    Args:
        candidates: As in ``next_move``.
        outlooks: As in ``next_move``.
        tried: As in ``next_move``.
        running: Whose calls are on their way.
        now: The time.
        may: Whether a candidate's price fits the cap.
    """
    taken = {*running, *(each.candidate for each in tried)}
    waits = _waits(candidates, outlooks, tried, now)
    for place, wait_s in waits.items():
        is_free = place not in taken and outlooks[place].refused_for_s is None
        if is_free and wait_s <= AT_ONCE_S and may(place):
            return Call(place, 0.0)
    return None


def has_other(
    candidates: Sequence[Candidate],
    outlooks: Sequence[Outlook],
    tried: Sequence[Tried],
    place: int,
    now: datetime,
    deadline: datetime,
) -> bool:
    """Tell whether somebody else could be asked within the deadline."""
    left_s = (deadline - now).total_seconds()
    return any(
        other != place and wait_s < left_s and outlooks[other].refused_for_s is None
        for other, wait_s in _waits(candidates, outlooks, tried, now).items()
    )


def patience_s(
    candidate: Candidate, usual_s: float | None, left_s: float, *, others: bool
) -> float | None:
    """
    Return how long a candidate may be silent before its first content.

    None means until the deadline: nobody else could use the time better.

    Args:
        candidate: Its own limit, from the catalogue, holds in any case.
        usual_s: The 95th percentile of its recent first-token times, if known.
        left_s: The time left for the request.
        others: Whether another candidate could still be asked.
    """
    if not others:
        return candidate.first_token_s
    limit_s = candidate.first_token_s
    if limit_s is None and usual_s is not None:
        limit_s = max(FIRST_TOKEN_MIN_S, FIRST_TOKEN_FACTOR * usual_s)
    share_s = left_s * SHARE_FOR_ONE
    return share_s if limit_s is None else min(limit_s, share_s)


def _waits(
    candidates: Sequence[Candidate],
    outlooks: Sequence[Outlook],
    tried: Sequence[Tried],
    now: datetime,
) -> dict[int, float]:
    """Return who may still be called, breakers aside, and in how many seconds."""
    waits: dict[int, float] = {}
    for place, outlook in enumerate(outlooks):
        mine = [each for each in tried if each.candidate == place]
        pause_s = 0.0
        if mine:
            last = mine[-1]
            if len(mine) >= CALLS_PER_CANDIDATE or not isinstance(last.verdict, Again):
                continue
            waited_s = (now - last.ended_at).total_seconds()
            pause_s = last.verdict.delay_s - waited_s
        if outlook.spent_for_s is None and _fits(candidates, place, tried):
            waits[place] = max(0.0, pause_s, outlook.ready_in_s)
    return waits


def _fits(candidates: Sequence[Candidate], place: int, tried: Sequence[Tried]) -> bool:
    """Tell whether a prompt that was too large elsewhere may fit here."""
    mine = candidates[place].context_tokens
    for each in tried:
        if isinstance(each.verdict, Unfit) and each.verdict.is_too_large:
            theirs = candidates[each.candidate].context_tokens
            if mine is not None and theirs is not None and mine <= theirs:
                return False
    return True


def _first_ready(
    waits: Mapping[int, float],
    outlooks: Sequence[Outlook],
    left_s: float,
    *,
    refused: bool,
    is_retry: bool,
) -> Call | None:
    """Return the call that is best among those whose breakers (do not) refuse."""
    best: Call | None = None
    best_value = math.inf
    for place, wait_s in waits.items():
        refused_for_s = outlooks[place].refused_for_s
        if (refused_for_s is not None) is not refused:
            continue
        delay_s = max(wait_s, refused_for_s or 0.0)
        # Half of a decaying peak: a rough least, so that hope is not given up early;
        # and the first call is the caller's own to risk.
        least_s = outlooks[place].first_token_s / 2 if is_retry else 0.0
        value = delay_s + place * STEP_DOWN_S
        if delay_s + least_s < left_s and value < best_value:
            best, best_value = Call(place, _rounded(delay_s)), value
    return best


def _rounded(delay_s: float) -> float:
    return delay_s if delay_s > AT_ONCE_S else 0.0


def _give_up(
    waits: Mapping[int, float], outlooks: Sequence[Outlook], tried: Sequence[Tried]
) -> GiveUp:
    """Say why nobody is asked, and when asking again may help."""
    unfit = [each for each in tried if isinstance(each.verdict, Unfit)]
    if unfit and not any(isinstance(each.verdict, Again) for each in tried):
        detail = f"no model here can take this request: {unfit[-1].failure.message}"
        return GiveUp(Code.INVALID, detail, retryable=False)
    hints = [
        max(wait_s, outlooks[place].refused_for_s or 0.0)
        for place, wait_s in waits.items()
    ]
    hint_s = min(hints, default=None)
    if not tried:
        return _nobody(waits, outlooks, hint_s)
    detail = f"no vendor answered; the last said: {tried[-1].failure.message}"
    retryable = any(isinstance(each.verdict, Again) for each in tried)
    is_limited = all(each.failure.status == RATE_LIMITED for each in tried)
    if is_limited and not any(isinstance(each.verdict, Spent) for each in tried):
        return GiveUp(Code.OVERLOADED, detail, retryable, hint_s)
    return GiveUp(Code.VENDOR_UNAVAILABLE, detail, retryable, hint_s)


def _nobody(
    waits: Mapping[int, float], outlooks: Sequence[Outlook], hint_s: float | None
) -> GiveUp:
    """Say why not even a first call is made."""
    if hint_s is None:
        spent = [each.spent_for_s for each in outlooks if each.spent_for_s is not None]
        detail = "the platform's accounts at every vendor of this model are exhausted"
        return GiveUp(
            Code.VENDOR_UNAVAILABLE, detail, retryable=False, retry_after_s=min(spent)
        )
    if any(outlooks[place].refused_for_s is None for place in waits):
        detail = "every vendor of this model is at its rate limit: ask again later"
        return GiveUp(Code.OVERLOADED, detail, retryable=True, retry_after_s=hint_s)
    detail = "every vendor of this model is failing at present: ask again later"
    return GiveUp(Code.UNAVAILABLE, detail, retryable=True, retry_after_s=hint_s)
