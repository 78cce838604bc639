"""
The broker's store in memory: what its books, purse and returns ask of it.

As ``lean_meter``: SQL has suites of its own, a transaction here is a plain call, and
the storm's closures raise before they write.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from ai_broker.domain.attempt import Attempt
from ai_broker.domain.budget import Lent, Profile
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.completion import Held
from ai_broker.ports.store import Work
from contracts.completions import Completion, CompletionRequest
from contracts.owed import Owed
from contracts.usage import UsageRecord
from determinism import Bell
from testkit.incarnation import Incarnation

T = TypeVar("T")


@dataclass
class BrokerMemory:
    """What the brokers' store holds; crashes leave it as it is."""

    completions: dict[str, Held] = field(default_factory=dict[str, Held])
    attempts: dict[str, dict[str, Attempt]] = field(
        default_factory=dict[str, dict[str, Attempt]]
    )
    """By completion, then by attempt."""
    by_lease: dict[str, dict[str, str]] = field(
        default_factory=dict[str, dict[str, str]]
    )
    """Lease → attempt → completion."""
    open: dict[str, Attempt] = field(default_factory=dict[str, Attempt])
    untold: dict[str, UsageRecord] = field(default_factory=dict[str, UsageRecord])
    outbox: dict[str, Owed] = field(default_factory=dict[str, Owed])
    slices: dict[str, Lent] = field(default_factory=dict[str, Lent])
    closed: set[str] = field(default_factory=set[str])
    profiles: dict[str, Profile] = field(default_factory=dict[str, Profile])

    def save(self, attempt: Attempt) -> None:
        """Keep an attempt in the place of what was known of it."""
        record = attempt.record
        self.attempts.setdefault(record.completion_id, {})[record.attempt_id] = attempt
        if record.lease_id is not None:
            of_lease = self.by_lease.setdefault(record.lease_id, {})
            of_lease[record.attempt_id] = record.completion_id
        if attempt.settled:
            self.open.pop(record.attempt_id, None)
            self.untold[record.attempt_id] = record
        else:
            self.open[record.attempt_id] = attempt


class MemoryStore:
    """
    The store's port.

    Args:
        memory: What all replicas share.
        incarnation: The process, which may die before and after each commit.
        settled: Rung when an attempt was settled.
        committed: Told which attempts a commit has written.
    """

    def __init__(
        self,
        memory: BrokerMemory,
        incarnation: Incarnation,
        settled: Bell,
        committed: Callable[[Sequence[Attempt]], None],
    ) -> None:
        self._memory = memory
        self._incarnation = incarnation
        self._settled = settled
        self._committed = committed

    async def run(self, transaction: Callable[[Work], T]) -> T:
        """Run a closure in one transaction."""
        await self._incarnation.point("store.begin")
        work = MemoryWork(self._memory)
        result = transaction(work)
        await self._incarnation.point("store.committed")
        if any(each.settled for each in work.written):
            self._settled.ring()
        if work.written:
            self._committed(work.written)
        return result

    async def read(self, query: Callable[[Work], T]) -> T:
        """Run a query."""
        return query(MemoryWork(self._memory))


class MemoryWork:
    """The broker's state."""

    def __init__(self, memory: BrokerMemory) -> None:
        self._memory = memory
        self.written: list[Attempt] = []

    def completion(self, tenant: str, completion_id: str) -> Held | None:
        """Return the completion."""
        del tenant
        return self._memory.completions.get(completion_id)

    def add_completion(self, held: Held) -> bool:
        """Insert a new completion."""
        is_new = held.completion_id not in self._memory.completions
        self._memory.completions.setdefault(held.completion_id, held)
        return is_new

    def save_completion(self, held: Held) -> None:
        """Save a completion."""
        self._memory.completions[held.completion_id] = held

    def renew(self, held: Held, until: datetime) -> bool:
        """Renew nothing: a storm's claims have ended from the start."""
        raise AssertionError(f"renewed: {held.completion_id} until {until}")

    def attempts(self, tenant: str, completion_id: str) -> Sequence[Attempt]:
        """Return the attempts of a completion."""
        del tenant
        return list(self._memory.attempts.get(completion_id, {}).values())

    def add_attempt(self, attempt: Attempt) -> None:
        """Insert an attempt about to be dispatched."""
        self._memory.save(attempt)
        self.written.append(attempt)

    def save_attempt(self, attempt: Attempt) -> None:
        """Save a settled attempt."""
        self._memory.save(attempt)
        self.written.append(attempt)

    def end_completion(self, held: Held) -> bool:
        """End no completion: a storm has no answers."""
        raise AssertionError(f"answered: {held.completion_id}")

    def settle_attempt(self, attempt: Attempt) -> bool:
        """Save an attempt as settled; False when it has been settled already."""
        is_open = attempt.record.attempt_id in self._memory.open
        if is_open:
            self.save_attempt(attempt)
        return is_open

    def take_untold(self, limit: int) -> Sequence[UsageRecord]:
        """Return records that the ledger was not told, and count them as told."""
        taken = sorted(self._memory.untold)[:limit]
        return [self._memory.untold.pop(each) for each in taken]

    def overdue(self, before: datetime, now: datetime, limit: int) -> Sequence[Attempt]:
        """Return open attempts with a deadline before then."""
        del now
        late = (each for each in self._memory.open.values() if each.deadline < before)
        return sorted(late, key=lambda each: each.deadline)[:limit]

    def prune(self, before: datetime, limit: int) -> int:
        """Forget nothing: a storm is over before."""
        del before, limit
        return 0

    def keep_answer(
        self, request: CompletionRequest, answer: Completion, candidate: Candidate
    ) -> None:
        """Keep no answer: a storm has none."""
        raise AssertionError(f"kept: {request} {answer} {candidate}")

    def lends(self, lease_id: str) -> bool:
        """Tell whether a lease may be reserved under."""
        return lease_id in self._memory.slices and lease_id not in self._memory.closed

    def owe(self, owed: Owed) -> None:
        """Owe a message until its receiver has it."""
        self._memory.outbox[owed.message_id] = owed


class MemorySlices:
    """The port of what was lent to whom."""

    def __init__(self, memory: BrokerMemory, incarnation: Incarnation) -> None:
        self._memory = memory
        self._incarnation = incarnation

    async def add(self, lent: Lent) -> None:
        """Write a slice down, before it is asked for."""
        await self._incarnation.point("store.begin")
        self._memory.slices[lent.lease_id] = lent
        await self._incarnation.point("store.committed")

    async def close(self, lease_id: str) -> Sequence[Attempt]:
        """Let nothing be reserved under a lease any more; return its attempts."""
        await self._incarnation.point("store.begin")
        memory = self._memory
        if lease_id in memory.slices:
            memory.closed.add(lease_id)
        of_lease = memory.by_lease.get(lease_id, {})
        found = [memory.attempts[of][each] for each, of in of_lease.items()]
        await self._incarnation.point("store.committed")
        return found

    async def due(self, instance: str, before: datetime, limit: int) -> Sequence[Lent]:
        """Return closed slices of an instance, and anybody's that ended before."""
        await self._incarnation.point("store.read")
        memory = self._memory
        found = [
            each
            for each in memory.slices.values()
            if each.until < before
            or (each.lease_id in memory.closed and each.instance == instance)
        ]
        return sorted(found, key=lambda each: (each.until, each.lease_id))[:limit]

    async def forget(self, lease_id: str) -> None:
        """Forget a slice that was returned for good, or never lent."""
        await self._incarnation.point("store.begin")
        self._memory.slices.pop(lease_id, None)
        self._memory.closed.discard(lease_id)

    async def profile(self, tenant: str) -> Profile | None:
        """Return what a tenant was last known to have limits on."""
        return self._memory.profiles.get(tenant)

    async def note(self, tenant: str, profile: Profile) -> None:
        """Remember what a tenant has limits on."""
        self._memory.profiles[tenant] = profile
