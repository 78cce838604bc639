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
from collections.abc import Iterable
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


@dataclass(frozen=True)
class Known:
    """What the ledger knows of some attempts."""

    digests: dict[tuple[str, int], str]
    """Of every record that came before, by attempt and revision."""
    in_force: dict[str, LedgerLine]
    """The line in force, by attempt."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A record, its digest, and what to do with it."""

    record: UsageRecord
    digest: str
    verdict: Verdict

    @property
    def is_noted(self) -> bool:
        """Whether the ledger keeps the record's key."""
        return isinstance(self.verdict, Post | Superseded)


def judge(
    records: Iterable[UsageRecord],
    tenant: str,
    known: Known,
    prices: PriceTable,
    now: datetime,
) -> list[Judged]:
    """
    Decide about one batch's records, each as if those before it were posted.

    Args:
        records: In the order in which they are to be posted.
        tenant: Whose batch it is.
        known: What the ledger knows of their attempts; it learns of these.
        prices: The price book.
        now: The time.
    """
    judged: list[Judged] = []
    for record in records:
        own = digest(record)
        verdict = (
            _foreign(record, tenant)
            or _repeated(record, own, known)
            or _refusal(record, now)
            or _posted(record, known, prices, now)
        )
        if isinstance(verdict, Post):
            known.in_force[record.attempt_id] = verdict.postings[-1].line
        judged.append(Judged(record, own, verdict))
        if judged[-1].is_noted:
            known.digests[record.attempt_id, record.revision] = own
    return judged


def _posted(
    record: UsageRecord, known: Known, prices: PriceTable, now: datetime
) -> Verdict:
    in_force = known.in_force.get(record.attempt_id)
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


def _foreign(record: UsageRecord, tenant: str) -> Quarantine | None:
    if record.tenant == tenant:
        return None
    detail = f"{record.attempt_id} is {record.tenant}'s in {tenant}'s batch"
    return Quarantine("tenant-mismatch", detail)


def _repeated(
    record: UsageRecord, own: str, known: Known
) -> Repeat | Quarantine | None:
    before = known.digests.get((record.attempt_id, record.revision))
    if before is None:
        return None
    if before == own:
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
