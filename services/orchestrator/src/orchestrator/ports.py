"""What the handlers need from outside."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from contracts.events import TriggerVersion
from contracts.tasks import ListTasks, SubmitTask, TaskChanged, TaskEvent
from determinism import Clock
from orchestrator.domain.cursor import Cursor
from orchestrator.domain.decision import (
    CancelTimer,
    Decision,
    SetTimer,
    StepDeadline,
)
from orchestrator.domain.state import Run

T = TypeVar("T")


class Work(Protocol):
    """The orchestrator's store inside one transaction; every read is a tenant's."""

    def admit(self, message_id: str) -> bool:
        """Note a message; False when it was seen before."""
        ...

    def has_admitted(self, message_id: str) -> bool:
        """Tell whether a message was noted before."""
        ...

    def create(self, decision: Decision, brief: SubmitTask) -> bool:
        """Insert a new run with all that it begins with; False when it is there."""
        ...

    def save(self, decision: Decision) -> None:
        """
        Store a run's next state, its events, timers and what is owed.

        Raises:
            TransientFault: Another transaction saved the run first.
        """
        ...

    def load(self, tenant: str, task_id: str) -> Run | None:
        """Return a run to decide about; others wait until this transaction ends."""
        ...

    def find(self, tenant: str, task_id: str) -> Run | None:
        """Return a run to show."""
        ...

    def brief(self, tenant: str, task_id: str) -> SubmitTask | None:
        """Return what a run was asked to do."""
        ...

    def page(self, request: ListTasks, after: Cursor | None) -> Sequence[Run]:
        """Return at most ``limit + 1`` runs, newest first, older than the cursor."""
        ...

    def history(
        self, tenant: str, task_id: str, after: int, limit: int
    ) -> Sequence[TaskEvent]:
        """Return events after a sequence, in order; few when they are large."""
        ...

    def story(self, tenant: str, task_id: str) -> Sequence[TaskEvent]:
        """Return every event but the turns, and as many newest turns as fit."""
        ...

    def overdue(self, limit: int) -> Sequence[StepDeadline]:
        """Return deadlines that have passed, oldest first; they stay set."""
        ...

    def settle_timers(self, timers: Sequence[SetTimer | CancelTimer]) -> None:
        """Set and cancel timers."""
        ...

    def prune(self, before: datetime, limit: int) -> int:
        """
        Forget at most ``limit`` runs that ended before then, and old message ids.

        Returns the limit when there may be more.
        """
        ...

    def triggers(self, tenant: str) -> Sequence[TriggerVersion]:
        """Return the newest version of each of a tenant's triggers, by name."""
        ...

    def add_trigger(self, version: TriggerVersion) -> None:
        """
        Insert a version.

        Raises:
            TransientFault: Another transaction inserted this version first.
        """
        ...


class Store(Protocol):
    """Where the orchestrator keeps what it must not lose."""

    async def run(self, transaction: Callable[[Work], T]) -> T:
        """Run a sync closure in one transaction; returns once committed."""
        ...

    async def read(self, query: Callable[[Work], T]) -> T:
        """Run a query on a snapshot."""
        ...


class Bell(Protocol):
    """Tells observers that a history grew."""

    async def ring(self, changed: TaskChanged) -> None:
        """Announce and forget; losing one costs nothing."""
        ...


@dataclass(frozen=True)
class Deps:
    """What every handler is given."""

    store: Store
    bell: Bell
    clock: Clock
    step_deadline_s: float
    """Seconds that each step of a new run may take."""
    keep: timedelta = timedelta(days=90)
    """How long an ended run is kept."""

    def now(self) -> datetime:
        """Return the wall time."""
        return self.clock.now()
