"""What the handlers need from outside."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

from billing_meter.domain.charges import Charge, SpentKey
from billing_meter.domain.leases import Lease, Terms
from billing_meter.domain.ledger import Posting
from billing_meter.domain.limits import Account, Kinds, Limit
from billing_meter.domain.metering import Judged, Known
from contracts.budgets import BudgetScope
from contracts.deadletters import DeadLetter
from contracts.ledger import LedgerPage, ListLedger, TaskCost
from contracts.message import Message
from contracts.prices import PriceBook
from determinism import Bell, Clock
from pricing import PriceTable

T = TypeVar("T")


class Books(Protocol):
    """Limits, what was spent of them and who holds slices, in one transaction."""

    def own(self, tenant: str) -> None:
        """Shut out everybody else from a tenant's books until the commit."""
        ...

    def share(self, tenant: str) -> None:
        """Shut out whoever owns a tenant's books until the commit."""
        ...

    def limits(self, tenant: str, scopes: Iterable[BudgetScope]) -> Sequence[Limit]:
        """Return a tenant's limits on these scopes."""
        ...

    def kinds(self, tenant: str) -> Kinds:
        """Return the kinds of scope that a tenant has limits on."""
        ...

    def page(
        self, tenant: str, after: tuple[str, str, str], count: int
    ) -> Sequence[Limit]:
        """Return limits with keys after one, in the order of their keys."""
        ...

    def put_limit(self, limit: Limit) -> None:
        """Keep a limit in the place of whatever has its key."""
        ...

    def lift(self, limit: Limit) -> None:
        """Take away the limit of this key, and its buckets."""
        ...

    def count_again(self, limit: Limit) -> None:
        """Fill a limit's buckets from the charges that it is put on."""
        ...

    def accounts(self, limits: Sequence[Limit], now: datetime) -> Sequence[Account]:
        """Return what counts against limits of one tenant, in their order."""
        ...

    def spend(self, added: Mapping[SpentKey, int]) -> None:
        """Add to buckets."""
        ...

    def lapse(self, tenant: str, now: datetime) -> None:
        """Close the tenant's leases that have ended."""
        ...

    def lease(self, lease_id: str) -> Lease | None:
        """Return a lease, locked until the commit."""
        ...

    def add_lease(self, lease: Lease) -> None:
        """Keep a new lease."""
        ...

    def save_lease(self, lease: Lease) -> None:
        """Save a lease that this transaction has read."""
        ...

    def charges(self, attempt_ids: Sequence[str]) -> Mapping[str, Charge]:
        """Return what attempts were charged, by attempt."""
        ...

    def put_charges(self, charges: Iterable[Charge]) -> None:
        """Keep charges, each in the place of its attempt's last."""
        ...

    def all_limits(self) -> Sequence[Limit]:
        """Return every tenant's limits."""
        ...

    def charged_since(self, since: datetime) -> int:
        """Return what all attempts since then cost."""
        ...

    def forget_leases(self, before: datetime, count: int) -> int:
        """Forget leases that ended before then; return how many."""
        ...


class Work(Protocol):
    """The ledger inside one transaction."""

    @property
    def books(self) -> Books:
        """The limits and leases beside it."""
        ...

    def admit(self, message_id: str) -> bool:
        """Note a message; False when it was seen before."""
        ...

    def known(self, attempt_ids: Sequence[str]) -> Known:
        """Return what the ledger knows of these attempts."""
        ...

    def note(self, judged: Sequence[Judged]) -> None:
        """Keep the records' keys for the ledger's life."""
        ...

    def append(self, postings: Sequence[Posting]) -> None:
        """Append transactions, in this order, and bring the rollups up to date."""
        ...

    def bury(self, letter: DeadLetter) -> None:
        """Keep a record that must not be posted."""
        ...

    def task_costs(self, tenant: str, task_ids: Sequence[str]) -> Sequence[TaskCost]:
        """Return the rollups, one for each id that was asked."""
        ...

    def lines(self, request: ListLedger) -> LedgerPage:
        """Return lines in force, oldest first."""
        ...

    def imbalance(self) -> int:
        """Return the sum of all entries; 0 in a sound ledger."""
        ...


class Store(Protocol):
    """Where the ledger lives."""

    async def run(self, transaction: Callable[[Work], T]) -> T:
        """Run a sync closure in one transaction; returns once committed."""
        ...

    async def read(self, query: Callable[[Work], T]) -> T:
        """Run a query on a snapshot."""
        ...


class Shelf(Protocol):
    """Price books: the one in force, and those that were."""

    @property
    def book(self) -> PriceBook:
        """The book in force."""
        ...

    @property
    def table(self) -> PriceTable:
        """The same, compiled."""
        ...

    def find(self, digest: str) -> PriceBook | None:
        """Return the book of a digest; None where it was never approved."""
        ...

    def refresh(self) -> None:
        """Take a newly approved book; one that cannot be read changes nothing."""
        ...


class Bells(Protocol):
    """The way to the broker's replicas; what is lost costs a moment."""

    async def announce(self, subject: str, message: Message) -> None:
        """Publish and forget."""
        ...


@dataclass(frozen=True)
class Deps:
    """Everything that the handlers use."""

    store: Store
    clock: Clock
    shelf: Shelf
    bells: Bells
    changes: Bell
    terms: Terms = field(default_factory=Terms)
