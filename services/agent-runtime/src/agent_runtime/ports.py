"""What the handlers need from outside."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from agent_runtime.domain.step import Step, StepLease
from agent_runtime.domain.transcript import Transcript, Turn
from contracts.completions import AttemptSummary, CompletionRequest
from contracts.employees import EmployeeVersion
from contracts.message import Message
from contracts.owed import Owed
from contracts.steps import StepRequested
from determinism import Clock, IdSource
from messaging.bus import FrameStream

T = TypeVar("T")


class Inbox(Protocol):
    """Messages that were processed."""

    def admit(self, message_id: str, now: datetime) -> bool:
        """Note a message; False when it was seen before."""
        ...


class Outbox(Protocol):
    """Messages that are owed."""

    def add(self, owed: Sequence[Owed], now: datetime) -> None:
        """Owe messages; they leave after the commit."""
        ...


class StepLeases(Protocol):
    """The rights to work on steps; at most one holder of each counts."""

    def claim(self, step_id: str, now: datetime) -> StepLease | None:
        """Take it for this process; None when it is held alive or finished."""
        ...

    def shelve(self, step_id: str, now: datetime) -> None:
        """Make a lease that nobody holds, for whoever sweeps first."""
        ...

    def renew(self, lease: StepLease, now: datetime) -> StepLease | None:
        """Hold on; None when the fence is stale."""
        ...

    def finish(self, lease: StepLease) -> bool:
        """End it for good; False when the fence is stale."""
        ...

    def release(self, lease: StepLease, now: datetime) -> None:
        """Let others claim it at once, if it is still ours."""
        ...

    def ask_to_cancel(self, step_id: str, now: datetime) -> bool:
        """Leave word for the holder; False when it is finished."""
        ...

    def unheld(self, now: datetime, limit: int) -> Sequence[str]:
        """Return steps that nobody works on, longest first."""
        ...


class Steps(Protocol):
    """Steps and their transcripts."""

    def enter(self, step: Step) -> bool:
        """Write a step down; False when its id is there already."""
        ...

    def get(self, step_id: str) -> Step | None:
        """Read a step."""
        ...

    def begin(self, step_id: str, now: datetime) -> None:
        """Note when it was first worked on."""
        ...

    def close(self, step_id: str, now: datetime) -> None:
        """Note that it has ended."""
        ...

    def append(self, step_id: str, fence: int, turn: Turn) -> None:
        """Append what is new of a turn: its answer, its tools' results."""
        ...

    def transcript(self, step_id: str) -> Transcript:
        """Read all turns, in order."""
        ...

    def note_attempts(self, step_id: str, attempts: Sequence[AttemptSummary]) -> None:
        """Keep vendor calls that may belong to no turn; repeats change nothing."""
        ...

    def attempts(self, step_id: str) -> tuple[AttemptSummary, ...]:
        """Read those vendor calls."""
        ...


class Employees(Protocol):
    """Employees' documents, all versions."""

    def newest(self, tenant: str, name: str) -> EmployeeVersion | None:
        """Read the version in force."""
        ...

    def get(self, tenant: str, name: str, version: int) -> EmployeeVersion | None:
        """Read one version."""
        ...

    def add(self, version: EmployeeVersion) -> bool:
        """Store a version; False when someone stored that number first."""
        ...

    def page(
        self, tenant: str, limit: int, after: str | None
    ) -> Sequence[EmployeeVersion]:
        """Read the newest version of each, by name."""
        ...


class Work(Protocol):
    """Everything that one transaction may touch."""

    @property
    def inbox(self) -> Inbox:
        """Return the inbox."""
        ...

    @property
    def outbox(self) -> Outbox:
        """Return the outbox."""
        ...

    @property
    def leases(self) -> StepLeases:
        """Return the leases."""
        ...

    @property
    def steps(self) -> Steps:
        """Return the steps."""
        ...

    @property
    def employees(self) -> Employees:
        """Return the employees."""
        ...

    def prune(self, before: datetime, limit: int) -> int:
        """Forget what ended before then; ``limit`` or more tells of more to do."""
        ...


class Store(Protocol):
    """Where this service's state lives, shared by its replicas."""

    async def run(self, transaction: Callable[[Work], T]) -> T:
        """Run a sync closure in one transaction; returns once committed."""
        ...

    async def read(self, query: Callable[[Work], T]) -> T:
        """Run a query on a snapshot."""
        ...


class Model(Protocol):
    """Whoever answers completions."""

    def complete(
        self, request: CompletionRequest
    ) -> AbstractAsyncContextManager[FrameStream]:
        """Ask; leaving the context without ``cancel`` lets the answer finish."""
        ...


class Watchers(Protocol):
    """Whoever watches a task right now; they may miss things."""

    async def show(self, tenant: str, task_id: str, message: Message) -> None:
        """Send one piece; raises nothing that matters."""
        ...


class Seats(Protocol):
    """This process's room for steps."""

    def reserve(self) -> bool:
        """Take a seat; False when all are taken."""
        ...

    def give_back(self) -> None:
        """Return a seat that was reserved and not used."""
        ...

    def start(self, claimed: "Claimed") -> None:
        """Work on a claimed step, in the reserved seat."""
        ...

    def cancel(self, step_id: str) -> None:
        """Wake the step's runner, if it is in this process."""
        ...

    def note_backlog(self) -> None:
        """Remember that a step waits in the store for a seat."""
        ...


@dataclass(frozen=True)
class Claimed:
    """A step that this process holds the lease of, with all it needs."""

    step: Step
    brief: StepRequested
    employee: EmployeeVersion
    began_at: datetime
    lease: StepLease
    transcript: Transcript
    carrier: Mapping[str, str]


@dataclass(frozen=True)
class Pace:
    """How long things may take, in seconds."""

    lease_s: float = 10.0
    """A lease that is not renewed for so long is anyone's."""
    heartbeat_s: float = 2.0
    """Between renewals."""
    sweep_s: float = 1.0
    """Between looks for steps that nobody works on."""
    call_s: float = 300.0
    """One model call, before it is asked again under the same id."""
    ask_min_s: float = 1.0
    """A call with less time than this would be paid for in vain."""
    cancel_s: float = 5.0
    """For a cancelled model call to say what it cost."""
    retry_first_s: float = 0.25
    """Before the first repeat of a failed model call."""
    retry_cap_s: float = 10.0
    """The longest wait between repeats."""
    coalesce_s: float = 0.03
    """Token deltas are gathered for so long."""
    snapshot_s: float = 1.0
    """Between snapshots of the turn in progress."""
    prune_s: float = 600.0
    """Between looks for steps that are old enough to be forgotten."""
    keep_s: float = 30 * 86_400.0
    """How long a step is remembered after its end."""
    crashes_max: int = 8
    """Claims of one step before a bug in it fails the step."""


@dataclass(frozen=True)
class Deps:
    """Everything that the handlers use."""

    store: Store
    model: Model
    watchers: Watchers
    seats: Seats
    clock: Clock
    ids: IdSource
    pace: Pace


@dataclass(frozen=True)
class Running:
    """A step at work, and what its parts share."""

    claimed: Claimed
    group: asyncio.TaskGroup
    cancelled: asyncio.Event
    """Set as soon as anyone asked to stop."""
    ending: asyncio.Event
    """Set before the lease is given up with the step's end."""
