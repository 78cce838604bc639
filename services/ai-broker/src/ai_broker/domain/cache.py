"""
Which questions are equal, and which of their answers may be given again.

A question is everything that can shape its answer: the model as it was named, the
turns with their cache marks, tools, schema, limits, sampling, reasoning, tier and
vendor fields. What says only who asks, for whom, when, or how the answer should
travel is not part of it, and is named in ``BOOKKEEPING``; a field that a later version
adds counts until it is named there too, since a miss costs money and a wrong hit costs
trust. The tenant is no part of the digest but of every key beside it: two tenants'
equal questions are never the same one.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import orjson

from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.completion import Held
from contracts.completions import (
    AttemptSummary,
    Completion,
    CompletionRequest,
    FinishReason,
    RefusalPart,
)
from contracts.usage import TokenUsage

BOOKKEEPING: Final = frozenset(
    {
        # Whose it is: the tenant stands in the key, the rest is one tenant's people.
        "tenant",
        "team",
        "employee",
        "user",
        "api_key_id",
        # Which call it is.
        "completion_id",
        "task_id",
        "step_id",
        "metadata",
        # How and when the answer comes.
        "cache_ttl_s",
        "deltas",
        "deadline",
    }
)
_WHOLE: Final = frozenset({FinishReason.STOP, FinishReason.TOOL_CALLS})


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that an equal question got earlier."""

    answer: Completion
    candidate: tuple[str, str]
    """The vendor and the catalogue's model that gave it."""


def question_of(request: CompletionRequest) -> str:
    """Return the digest that equal questions share, within a tenant."""
    asked = request.model_dump(
        mode="json", exclude=set(BOOKKEEPING), exclude_defaults=True
    )
    text = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()


def oldest(request: CompletionRequest, now: datetime) -> datetime | None:
    """Return how old an answer this asker takes; None when it wants a new one."""
    if request.cache_ttl_s is None:
        return None
    return now - timedelta(seconds=request.cache_ttl_s)


def is_keepable(answer: Completion) -> bool:
    """Tell whether an answer may be given again: whole, not declined, not empty."""
    declined = any(isinstance(each, RefusalPart) for each in answer.parts)
    return (
        answer.finish_reason in _WHOLE
        and bool(answer.parts or answer.vectors)
        and not declined
    )


def may_answer(kept: Kept, candidates: list[Candidate]) -> bool:
    """
    Tell whether whoever gave the answer could be asked now.

    So an alias that was pointed elsewhere, or a vendor taken off the menu, ends the
    life of the answers that it gave.
    """
    return kept.candidate in {(each.vendor, each.model) for each in candidates}


def given_again(
    kept: Kept, held: Held, attempts: tuple[AttemptSummary, ...], now: datetime
) -> Completion:
    """
    Return the kept answer as this completion's own, at no vendor cost.

    Args:
        kept: The earlier answer.
        held: The completion that asks.
        attempts: Its own vain attempts, if an earlier round made some.
        now: When it is stored.
    """
    changes: dict[str, object] = {
        "completion_id": held.completion_id,
        "usage": TokenUsage(),
        "attempts": attempts,
        "is_cached": True,
        "created_at": now,
    }
    return kept.answer.model_copy(update=changes)
