"""What the handlers need from outside."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from billing_meter.domain.ledger import Posting
from billing_meter.domain.metering import Known
from contracts.deadletters import DeadLetter
from contracts.ledger import LedgerPage, ListLedger, TaskCost
from contracts.prices import PriceBook
from contracts.usage import UsageRecord
from determinism import Clock
from pricing import PriceTable

T = TypeVar("T")


class Work(Protocol):
    """The ledger inside one transaction."""

    def admit(self, message_id: str) -> bool:
        """Note a message; False when it was seen before."""
        ...

    def known(self, record: UsageRecord) -> Known:
        """Return what the ledger knows of the record's attempt."""
        ...

    def note(self, record: UsageRecord, digest: str) -> None:
        """Keep the record's key for the ledger's life."""
        ...

    def append(self, posting: Posting) -> None:
        """Append one transaction and bring the rollup up to date."""
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


@dataclass(frozen=True)
class Deps:
    """Everything that the handlers use."""

    store: Store
    clock: Clock
    book: PriceBook
    prices: PriceTable
