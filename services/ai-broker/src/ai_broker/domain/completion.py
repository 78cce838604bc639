"""
Who may answer a completion: at most one claim at a time, one answer for ever.

    (absent) ──claim──► running(fence 1) ──answered──► answered: replayed
                          │   ▲
                       failed  └─claim(fence+1)─┐
                          ▼                     │
                        failed ─────────────────┤ asked again
                        running, lease expired ─┘ taken over
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never

import orjson

from contracts.completions import Completion, CompletionRequest
from contracts.frames import Failed

PAID_MAX: Final = 12
"""Attempts of one completion that consumed tokens and gave no answer."""


class State(StrEnum):
    """Where a completion stands."""

    RUNNING = "running"
    ANSWERED = "answered"
    FAILED = "failed"


@dataclass(frozen=True)
class Held:
    """A completion as the store has it."""

    tenant: str
    completion_id: str
    digest: str
    state: State
    owner: str
    """The replica that holds the claim, or held it last."""
    fence: int
    """Grows by one with every claim; whatever an older one brings is stale."""
    until: datetime
    """When the claim expires unless its owner renews it."""
    created_at: datetime
    answer: Completion | None = None
    failure: Failed | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """The asker answers it."""

    held: Held
    fresh: bool
    """Whether nobody has claimed it before."""


@dataclass(frozen=True, slots=True)
class Stored:
    """It is answered already."""

    answer: Completion
    given_now: bool = False
    """Whether this very claim took it over from an equal question."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Another claim is alive."""

    owner: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The id was used for another question."""


Claim = Granted | Stored | Busy | Mismatch


def digest_of(request: CompletionRequest) -> str:
    """
    Return what two requests must share to be the same question.

    Neither the deadline, nor the wish for deltas, nor how old an answer may be is
    part of it, since a repeat has its own. Defaults are left out, so that a field that
    a later version adds does not turn a repeat into another question.
    """
    asked = request.model_dump(
        mode="json",
        exclude={"deadline", "deltas", "cache_ttl_s"},
        exclude_defaults=True,
    )
    text = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()


def claim(
    found: Held | None,
    request: CompletionRequest,
    digest: str,
    owner: str,
    now: datetime,
    lease: timedelta,
) -> Claim:
    """Decide who answers."""
    until = now + lease
    if found is None:
        key = (request.tenant, request.completion_id, digest)
        held = Held(*key, State.RUNNING, owner, 1, until, now)
        return Granted(held, fresh=True)
    if found.digest != digest:
        return Mismatch()
    if found.answer is not None:
        return Stored(found.answer)
    match found.state:
        case State.RUNNING if found.until > now:
            return Busy(found.owner, found.until)
        case State.RUNNING | State.FAILED | State.ANSWERED:
            claimed = replace(
                found,
                state=State.RUNNING,
                owner=owner,
                fence=found.fence + 1,
                until=until,
                failure=None,
            )
            return Granted(claimed, fresh=False)
        case _:
            assert_never(found.state)


def answered(held: Held, answer: Completion, now: datetime) -> Held:
    """Return the completion with its answer, which never changes again."""
    return replace(held, state=State.ANSWERED, answer=answer, until=now)


def failed(held: Held, failure: Failed, now: datetime) -> Held:
    """Return the completion as failed; it may be asked again."""
    return replace(held, state=State.FAILED, failure=failure, until=now)


def is_spent(tokens: Iterable[int]) -> bool:
    """Tell whether vendors were paid so often in vain that it is a defect."""
    return sum(each > 0 for each in tokens) >= PAID_MAX


def is_mine(found: Held | None, fence: int) -> bool:
    """Tell whether a claim still counts."""
    return found is not None and found.state is State.RUNNING and found.fence == fence
