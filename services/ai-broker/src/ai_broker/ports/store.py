"""Where completions and attempts live."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from ai_broker.domain.attempt import Attempt
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.completion import Held
from contracts.completions import Completion, CompletionRequest
from contracts.owed import Owed
from contracts.usage import UsageRecord

T = TypeVar("T")


class Work(Protocol):
    """The broker's state inside one transaction."""

    def completion(self, tenant: str, completion_id: str) -> Held | None:
        """Return the completion, locked until the transaction ends."""
        ...

    def add_completion(self, held: Held) -> bool:
        """Insert a new completion; False when there is one already."""
        ...

    def save_completion(self, held: Held) -> None:
        """Save a completion that this transaction has read."""
        ...

    def end_completion(self, held: Held) -> bool:
        """Save how a completion ended; False when its claim is lost."""
        ...

    def renew(self, held: Held, until: datetime) -> bool:
        """Hold a claim longer; False when it is lost."""
        ...

    def attempts(self, tenant: str, completion_id: str) -> Sequence[Attempt]:
        """Return the attempts of a completion, by number."""
        ...

    def add_attempt(self, attempt: Attempt) -> None:
        """Insert an attempt about to be dispatched."""
        ...

    def save_attempt(self, attempt: Attempt) -> None:
        """Save a settled attempt, whose record the ledger has not been told."""
        ...

    def settle_attempt(self, attempt: Attempt) -> bool:
        """Save an attempt as settled; False when it has been settled already."""
        ...

    def take_untold(self, limit: int) -> Sequence[UsageRecord]:
        """Return records that the ledger was not told, and count them as told."""
        ...

    def overdue(self, before: datetime, now: datetime, limit: int) -> Sequence[Attempt]:
        """Return open attempts with a deadline before then that nobody holds."""
        ...

    def prune(self, before: datetime, limit: int) -> int:
        """Forget old completions without open attempts; return how many."""
        ...

    def keep_answer(
        self, request: CompletionRequest, answer: Completion, candidate: Candidate
    ) -> None:
        """Let equal questions of this tenant find an answer, until it is pruned."""
        ...

    def lends(self, lease_id: str) -> bool:
        """Tell whether a lease may be reserved under; it stays so until the commit."""
        ...

    def owe(self, owed: Owed) -> None:
        """Owe a message; it leaves after the commit."""
        ...


class Store(Protocol):
    """Where completions and attempts live."""

    async def run(self, transaction: Callable[[Work], T]) -> T:
        """
        Run a sync closure in one transaction; returns once committed.

        Raises:
            TransientFault: It did not commit, or nobody knows whether it did.
        """
        ...

    async def read(self, query: Callable[[Work], T]) -> T:
        """Run a query on a snapshot."""
        ...
