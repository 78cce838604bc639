"""An orchestrator on an inline store, for the tests of its handlers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from contracts.completions import AttemptSummary, FinishReason
from contracts.events import Trigger, TriggerTask
from contracts.message import Json, Message
from contracts.steps import CancelStep, StepFinished, StepOutcome, StepRequested
from contracts.tasks import (
    GetTask,
    SubmitTask,
    TaskChanged,
    TaskView,
)
from contracts.turns import TurnRecord
from contracts.usage import EndState, TokenUsage, UsageSource
from messaging.bus import Delivery
from messaging.subscriptions import ForeignEvent
from orchestrator.adapters.sql import SqlStore
from orchestrator.adapters.tables import SHARED, OrchestratorTable
from orchestrator.domain.definition import plain
from orchestrator.handlers import runs, tasks
from orchestrator.ports import Deps
from persistence.database import InlineDatabase

EPOCH: Final = datetime(2026, 3, 1, tzinfo=UTC)
TRACE: Final = {"traceparent": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"}


class HeldClock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.time = EPOCH

    def now(self) -> datetime:
        """Return the held time."""
        return self.time

    def monotonic(self) -> float:
        """Return seconds since the epoch."""
        return (self.time - EPOCH).total_seconds()

    async def sleep(self, duration_s: float) -> None:
        """Move on."""
        self.time += timedelta(seconds=duration_s)


@dataclass
class HeardBell:
    """Keeps what was announced."""

    heard: list[TaskChanged] = field(default_factory=list[TaskChanged])

    async def ring(self, changed: TaskChanged) -> None:
        """Hear it."""
        self.heard.append(changed)


class World:
    """An orchestrator whose outbox a test reads as its receivers would."""

    def __init__(self) -> None:
        self.clock = HeldClock()
        self.bell = HeardBell()
        self.woken: list[str] = []
        self.database = InlineDatabase.create(OrchestratorTable.metadata)

        def wake(message_ids: Sequence[str]) -> None:
            self.woken.extend(message_ids)

        store = SqlStore(self.database, self.clock, wake, lambda: TRACE)
        self.deps = Deps(store, self.bell, self.clock, step_deadline_s=60)

    async def submit(self, task_id: str = "task_1", tenant: str = "acme") -> None:
        """Hand a plain task over."""
        message = SubmitTask(
            task_id=task_id,
            tenant=tenant,
            definition=plain("clerk", "File it."),
            employee="clerk",
            goal="File it.",
            input={"big": 2**70, "odd": "\0"},
            submitted_at=self.clock.now(),
        )
        await runs.start_task(message, delivery(f"submit-{task_id}"), self.deps)

    async def task(self, task_id: str = "task_1", tenant: str = "acme") -> TaskView:
        """Ask for a task."""
        return await tasks.get_task(GetTask(tenant=tenant, task_id=task_id), self.deps)

    async def owed(self) -> list[Message]:
        """Return what the outbox owes, oldest first."""
        outbox = SHARED.outbox
        rows = await self.database.read(
            lambda conn: conn.execute(
                outbox.select().order_by(outbox.c.created_at)
            ).all()
        )
        assert all(row.headers == TRACE for row in rows)
        return [
            CancelStep.model_validate_json(row.body)
            if row.address.startswith("work.agent-runtime.cancel.")
            else StepRequested.model_validate_json(row.body)
            for row in rows
        ]

    async def finish(
        self, output: Json = "done", message_id: str = "finish-1", task: str = "task_1"
    ) -> None:
        """Let the worker complete the task's step."""
        step = (await self.task(task)).steps[0]
        message = StepFinished(
            tenant="acme",
            task_id=task,
            step_id=step.step_id,
            fence=1,
            outcome=StepOutcome.COMPLETED,
            output=output,
            turns=(turn(1), turn(2)),
            finished_at=self.clock.now(),
        )
        await runs.advance_task(message, delivery(message_id), self.deps)


def delivery(message_id: str) -> Delivery:
    """Build what comes beside a message."""
    return Delivery("work.orchestrator.stable.any.acme", message_id, "acme")


def turn(number: int) -> TurnRecord:
    """Build a turn."""
    return TurnRecord(
        turn=number,
        model="m",
        vendor="v",
        finish_reason=FinishReason.STOP,
        started_at=EPOCH,
        finished_at=EPOCH,
    )


def attempt() -> AttemptSummary:
    """Build a vendor call."""
    return AttemptSummary(
        attempt_id="attempt_1",
        vendor="v",
        model="m",
        end_state=EndState.CANCELLED,
        usage=TokenUsage(input_tokens=3),
        source=UsageSource.ESTIMATED,
    )


def foreign(body: bytes, sequence: int = 1) -> ForeignEvent:
    """Build an event of acme's."""
    return ForeignEvent(
        "acme", "events.acme.invoice.received", {}, body, EPOCH, sequence
    )


def trigger(name: str = "invoices", goal: str = "File {{ data.number }}.") -> Trigger:
    """Build a trigger on invoices."""
    task = TriggerTask(employee="clerk", goal=goal, input="data")
    return Trigger(name=name, subject="invoice.*", task=task)
