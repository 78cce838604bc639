"""
What to do with one usage record, given what the ledger knows of its attempt.

    first of its attempt           → post
    higher revision than in force  → reverse what is in force, post
    lower revision than in force   → note it; it was superseded before it came
    same key, same digest          → nothing: a repeat
    same key, other digest         → quarantine: an id was used twice
    another tenant's attempt       → quarantine
    absurd or from the future      → quarantine
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import orjson

from billing_meter.domain.ledger import Posting, post, reverse
from contracts.ledger import LedgerLine
from contracts.money import INT64_MAX
from contracts.usage import UsageRecord
from pricing import PriceTable, UnknownVariant

TOKENS_MAX: Final = 10**9
CLOCK_SKEW_MAX: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Post:
    """Append these; the line in force is the last one's."""

    postings: tuple[Posting, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The ledger has it: change nothing."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """A later revision came first: keep the key, post nothing."""


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Keep it as a dead letter; a human must look."""

    reason: str
    detail: str


Verdict = Post | Repeat | Superseded | Quarantine


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows of a record's attempt."""

    digest: str | None
    """Of the record with the same attempt and revision, if it came before."""
    in_force: LedgerLine | None
    """The attempt's line in force."""


def judge(
    record: UsageRecord, known: Known, prices: PriceTable, now: datetime
) -> Verdict:
    """Decide about one record."""
    if known.digest is not None:
        return _repeat_or_reuse(record, known.digest)
    refusal = _refusal(record, now)
    if refusal is not None:
        return refusal
    in_force = known.in_force
    if in_force is not None and in_force.tenant != record.tenant:
        detail = f"{record.attempt_id} is {in_force.tenant}'s, not {record.tenant}'s"
        return Quarantine("tenant-mismatch", detail)
    if in_force is not None and record.revision < in_force.revision:
        return Superseded()
    try:
        rating = prices.rate(record)
    except UnknownVariant as cause:
        return Quarantine(cause.code, cause.detail)
    if rating.pico_usd > INT64_MAX:
        return Quarantine("absurd-usage", f"{record.attempt_id} costs above int64")
    posting = post(record, rating, prices.digest, now)
    if in_force is None:
        return Post((posting,))
    return Post((reverse(in_force, now), posting))


def digest(record: UsageRecord) -> str:
    """
    Return the SHA-256 of what the record says of money, as canonical JSON, in hex.

    Signals of quality are left out: a meter that does not know them yet must come to
    the same digest.
    """
    content = record.model_dump(mode="json", exclude_none=True, exclude={"quality"})
    canonical = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()


def _repeat_or_reuse(record: UsageRecord, known_digest: str) -> Repeat | Quarantine:
    if digest(record) == known_digest:
        return Repeat()
    detail = (
        f"{record.attempt_id} revision {record.revision} came before with another "
        "content: a correction needs a higher revision"
    )
    return Quarantine("usage-conflict", detail)


def _refusal(record: UsageRecord, now: datetime) -> Quarantine | None:
    if record.usage.total > TOKENS_MAX:
        detail = f"{record.attempt_id} claims {record.usage.total} tokens: at most 10^9"
        return Quarantine("absurd-usage", detail)
    if record.occurred_at > now + CLOCK_SKEW_MAX:
        detail = (
            f"{record.attempt_id} occurred at {record.occurred_at.isoformat()}, in the "
            "future: check the sender's clock"
        )
        return Quarantine("usage-from-the-future", detail)
    return None
