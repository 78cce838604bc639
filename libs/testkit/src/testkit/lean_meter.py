"""
The meter's store in memory: its ports, for storms that SQL would make too slow.

The SQL store passes suites of its own. A transaction here is a plain call; the storm's
closures raise before they write, so nothing has to be undone.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from billing_meter.domain import leases
from billing_meter.domain.charges import Charge, SpentKey
from billing_meter.domain.leases import Lease, LeaseState
from billing_meter.domain.ledger import Posting
from billing_meter.domain.limits import Account, Kinds, Limit, bucket, opens
from billing_meter.domain.metering import Judged, Known
from billing_meter.ports import Work
from contracts.budgets import BudgetScope
from contracts.deadletters import DeadLetter
from contracts.ledger import LedgerLine, LedgerPage, ListLedger, TaskCost
from testkit.incarnation import Incarnation
from testkit.lease_oracle import Books, Scope

T = TypeVar("T")

Key = tuple[str, str, str]


def name_of(scope: BudgetScope) -> Scope:
    """Return a scope as the oracle knows it."""
    return f"{scope.kind}:{scope.id}"


@dataclass
class MeterMemory:
    """What a meter's store holds of one tenant; crashes leave it as it is."""

    limits: dict[Key, Limit] = field(default_factory=dict[Key, Limit])
    spent: dict[Key, Counter[datetime]] = field(
        default_factory=dict[Key, Counter[datetime]]
    )
    leases: dict[str, Lease] = field(default_factory=dict[str, Lease])
    open: dict[str, Lease] = field(default_factory=dict[str, Lease])
    """Those that are not closed."""
    held: dict[tuple[Scope, str], int] = field(
        default_factory=dict[tuple[Scope, str], int]
    )
    """What open leases hold, by scope and by who has them."""
    held_of: Counter[Scope] = field(default_factory=Counter[Scope])
    """The same by scope alone."""
    names: dict[str, tuple[Scope, ...]] = field(
        default_factory=dict[str, tuple[Scope, ...]]
    )
    """Each lease's scopes."""
    charges: dict[str, Charge] = field(default_factory=dict[str, Charge])
    digests: dict[str, dict[int, str]] = field(
        default_factory=dict[str, dict[int, str]]
    )
    """Of every record, by attempt and revision."""
    in_force: dict[str, LedgerLine] = field(default_factory=dict[str, LedgerLine])
    inbox: set[str] = field(default_factory=set[str])

    def books(self) -> Books:
        """Return what the oracle looks at."""
        return Books(
            {name_of(each.scope): each.pico_usd for each in self.limits.values()},
            {
                name_of(self.limits[key].scope): sum(buckets.values())
                for key, buckets in self.spent.items()
            },
            dict(self.held),
        )

    def save(self, lease: Lease) -> None:
        """Keep a lease, and what changes by it in the sums."""
        before = self.open.pop(lease.lease_id, None)
        self.leases[lease.lease_id] = lease
        if lease.state is not LeaseState.CLOSED:
            self.open[lease.lease_id] = lease
        change = lease.held - (0 if before is None else before.held)
        if lease.lease_id not in self.names:
            self.names[lease.lease_id] = tuple(map(name_of, lease.scopes))
        for name in self.names[lease.lease_id]:
            key = (name, lease.instance)
            self.held_of[name] += change
            self.held[key] = self.held.get(key, 0) + change
            if not self.held[key]:
                del self.held[key]

    def charged(self) -> Mapping[str, int]:
        """Return what each attempt was charged; -1 where the ledger says otherwise."""
        return {
            name: each.pico_usd if self.in_force[name].pico_usd == each.pico_usd else -1
            for name, each in self.charges.items()
        }

    def by_scope(self) -> Counter[Scope]:
        """Return what all attempts together were charged, by scope."""
        found: Counter[Scope] = Counter()
        for charge in self.charges.values():
            for scope in charge.scopes:
                found[name_of(scope)] += charge.pico_usd
        return found


class MemoryStore:
    """
    The store's port.

    Args:
        memory: What outlives the process.
        incarnation: The process, which may die before and after each commit.
        look: Told what the books say after each commit.
    """

    def __init__(
        self,
        memory: MeterMemory,
        incarnation: Incarnation,
        look: Callable[[Books], None],
    ) -> None:
        self._work = MemoryWork(memory)
        self._incarnation = incarnation
        self._memory = memory
        self._look = look

    async def run(self, transaction: Callable[[Work], T]) -> T:
        """Run a closure in one transaction."""
        await self._incarnation.point("store.begin")
        result = transaction(self._work)
        self._look(self._memory.books())
        await self._incarnation.point("store.committed")
        return result

    async def read(self, query: Callable[[Work], T]) -> T:
        """Run a query."""
        return query(self._work)


class MemoryWork:
    """The ledger."""

    def __init__(self, memory: MeterMemory) -> None:
        self._memory = memory
        self.books = MemoryBooks(memory)

    def admit(self, message_id: str) -> bool:
        """Note a message; False when it was seen before."""
        is_new = message_id not in self._memory.inbox
        self._memory.inbox.add(message_id)
        return is_new

    def known(self, attempt_ids: Sequence[str]) -> Known:
        """Return what the ledger knows of these attempts."""
        asked = frozenset(attempt_ids)
        return Known(
            {
                (each, revision): digest
                for each in asked
                for revision, digest in self._memory.digests.get(each, {}).items()
            },
            {
                each: self._memory.in_force[each]
                for each in asked
                if each in self._memory.in_force
            },
        )

    def note(self, judged: Sequence[Judged]) -> None:
        """Keep the records' keys."""
        for each in judged:
            revisions = self._memory.digests.setdefault(each.record.attempt_id, {})
            revisions[each.record.revision] = each.digest

    def append(self, postings: Sequence[Posting]) -> None:
        """Put lines in force, or out of it."""
        for posting in postings:
            attempt_id = posting.line.attempt_id
            if posting.reverses_id is None:
                self._memory.in_force[attempt_id] = posting.line
            else:
                del self._memory.in_force[attempt_id]

    def bury(self, letter: DeadLetter) -> None:
        """Take no dead letter: a storm sends nothing that must not be posted."""
        raise AssertionError(f"quarantined: {letter.reason}: {letter.detail}")

    def task_costs(self, tenant: str, task_ids: Sequence[str]) -> Sequence[TaskCost]:
        """Tell nothing: a storm has no tasks."""
        raise AssertionError(f"asked for the cost of {tenant}'s {task_ids}")

    def lines(self, request: ListLedger) -> LedgerPage:
        """Return all lines in force on one page."""
        del request
        return LedgerPage(lines=tuple(self._memory.in_force.values()))

    def imbalance(self) -> int:
        """Return 0: entries are not kept here."""
        return 0


class MemoryBooks:
    """Limits, buckets, leases and charges."""

    def __init__(self, memory: MeterMemory) -> None:
        self._memory = memory

    def own(self, tenant: str) -> None:
        """Need no lock: a transaction is never interrupted."""

    def share(self, tenant: str) -> None:
        """Need no lock: a transaction is never interrupted."""

    def limits(self, tenant: str, scopes: Iterable[BudgetScope]) -> Sequence[Limit]:
        """Return the limits on these scopes."""
        wanted = frozenset(scopes)
        known = self._memory.limits
        periods = sorted({period for _, _, period in known})
        keys = [(s.kind.value, s.id, p) for s in wanted for p in periods]
        found = [known[key] for key in sorted(keys) if key in known]
        return [each for each in found if each.tenant == tenant]

    def kinds(self, tenant: str) -> Kinds:
        """Return the kinds of scope that there are limits on."""
        mine = [each for each in self._memory.limits.values() if each.tenant == tenant]
        return Kinds(
            limited=tuple(sorted({each.scope.kind for each in mine})),
            hard=tuple(sorted({e.scope.kind for e in mine if e.budget.is_hard})),
        )

    def page(self, tenant: str, after: Key, count: int) -> Sequence[Limit]:
        """Return limits with keys after one."""
        keys = sorted(key for key in self._memory.limits if key > after)
        found = [self._memory.limits[key] for key in keys]
        return [each for each in found if each.tenant == tenant][:count]

    def put_limit(self, limit: Limit) -> None:
        """Keep a limit in the place of whatever has its key."""
        self._memory.limits[limit.key] = limit
        self._memory.spent.setdefault(limit.key, Counter())

    def lift(self, limit: Limit) -> None:
        """Take away the limit of this key, and its buckets."""
        self._memory.limits.pop(limit.key, None)
        self._memory.spent.pop(limit.key, None)

    def count_again(self, limit: Limit) -> None:
        """Fill a limit's buckets from the charges that it is put on."""
        buckets: Counter[datetime] = Counter()
        for charge in self._memory.charges.values():
            if limit.scope in charge.scopes:
                buckets[bucket(limit.budget, charge.charged_at)] += charge.pico_usd
        self._memory.spent[limit.key] = buckets

    def accounts(self, limits: Sequence[Limit], now: datetime) -> Sequence[Account]:
        """Return what counts against limits, in their order."""
        return [self._account(each, now) for each in limits]

    def spend(self, added: Mapping[SpentKey, int]) -> None:
        """Add to buckets."""
        for (limit, at), pico_usd in added.items():
            self._memory.spent[limit.key][at] += pico_usd

    def lapse(self, tenant: str, now: datetime) -> None:
        """Close the leases that have ended."""
        for lease in list(self._memory.open.values()):
            lapsed = leases.lapse(lease, now)
            if lease.tenant == tenant and lapsed is not lease:
                self.save_lease(lapsed)

    def lease(self, lease_id: str) -> Lease | None:
        """Return a lease."""
        return self._memory.leases.get(lease_id)

    def add_lease(self, lease: Lease) -> None:
        """Keep a new lease."""
        self.save_lease(lease)

    def save_lease(self, lease: Lease) -> None:
        """Save a lease."""
        self._memory.save(lease)

    def charges(self, attempt_ids: Sequence[str]) -> Mapping[str, Charge]:
        """Return what attempts were charged, by attempt."""
        known = self._memory.charges
        return {each: known[each] for each in attempt_ids if each in known}

    def put_charges(self, charges: Iterable[Charge]) -> None:
        """Keep charges, each in the place of its attempt's last."""
        for each in charges:
            self._memory.charges[each.attempt_id] = each

    def all_limits(self) -> Sequence[Limit]:
        """Return every limit."""
        return list(self._memory.limits.values())

    def charged_since(self, since: datetime) -> int:
        """Return what all attempts since then cost."""
        charges = self._memory.charges.values()
        return sum(each.pico_usd for each in charges if each.charged_at >= since)

    def forget_leases(self, before: datetime, count: int) -> int:
        """Forget nothing: a storm is over before."""
        del before, count
        return 0

    def _account(self, limit: Limit, now: datetime) -> Account:
        first = opens(limit.budget, now)
        counted = {
            at: amount
            for at, amount in self._memory.spent[limit.key].items()
            if at >= first
        }
        spent, held = sum(counted.values()), self._memory.held_of[name_of(limit.scope)]
        return Account(limit, spent, held, min(counted, default=None))
