"""Handlers over the real SQL adapter on an inline store, with a bell that is heard."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from contracts import subjects
from contracts.completions import FinishReason
from contracts.events import ApplyTrigger, ListTriggers, Trigger, TriggerTask
from contracts.message import Json, Message
from contracts.problems import Code
from contracts.steps import CancelStep, StepFinished, StepOutcome, StepRequested
from contracts.tasks import (
    CancelTask,
    GetTask,
    ListTaskEvents,
    ListTasks,
    SubmitTask,
    TaskChanged,
    TaskStatus,
    TaskView,
)
from contracts.turns import TurnFinished, TurnRecord
from faults import PermanentFault
from messaging.bus import Delivery
from messaging.refusals import Refused
from messaging.subscriptions import ForeignEvent
from orchestrator.adapters.sql import SqlStore
from orchestrator.adapters.tables import SHARED, OrchestratorTable
from orchestrator.domain.definition import plain
from orchestrator.handlers import runs, tasks, triggers
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


def foreign(body: bytes, sequence: int = 1) -> ForeignEvent:
    """Build an event of acme's."""
    return ForeignEvent(
        "acme", "events.acme.invoice.received", {}, body, EPOCH, sequence
    )


def trigger(name: str = "invoices", goal: str = "File {{ data.number }}.") -> Trigger:
    """Build a trigger on invoices."""
    task = TriggerTask(employee="clerk", goal=goal, input="data")
    return Trigger(name=name, subject="invoice.*", task=task)


@pytest.fixture
def world() -> World:
    """Return an empty orchestrator."""
    return World()


async def test_a_submission_starts_a_task_once(world: World) -> None:
    """A redelivered submission, even under another id, changes nothing."""
    await world.submit()
    await world.submit()
    await runs.start_task(
        SubmitTask(
            task_id="task_1",
            tenant="acme",
            definition=plain("clerk", "Other."),
            submitted_at=EPOCH,
        ),
        delivery("other"),
        world.deps,
    )
    view = await world.task()
    assert view.status is TaskStatus.RUNNING
    assert view.input == {"big": 2**70, "odd": "\0"}
    assert len(await world.owed()) == 1
    assert len(world.woken) == 1
    assert [bell.seq for bell in world.bell.heard] == [2]


async def test_a_task_runs_to_its_end(world: World) -> None:
    """Turns and the finish become the view, the history and the bells."""
    await world.submit()
    step_id = (await world.task()).steps[0].step_id
    bell = TurnFinished(
        tenant="acme", task_id="task_1", step_id=step_id, fence=1, turn=turn(1)
    )
    await runs.record_turn(bell, delivery("turn-1"), world.deps)
    await world.finish(output={"n": 2**70})
    await world.finish(message_id="finish-again")
    view = await world.task()
    assert (view.status, view.output) == (TaskStatus.COMPLETED, {"n": 2**70})
    assert [each.turn for each in view.steps[0].turns] == [1, 2]
    page = await tasks.list_events(
        ListTaskEvents(tenant="acme", task_id="task_1", after=2), world.deps
    )
    assert [event.seq for event in page.events] == [3, 4, 5, 6]
    assert (page.last_seq, page.status) == (6, TaskStatus.COMPLETED)
    assert world.bell.heard[-1].output == {"n": 2**70}
    assert world.bell.heard[-1].type == "task.completed"


async def test_a_message_for_no_task_is_a_dead_letter(world: World) -> None:
    """It is kept with its reason, and a replay works once the task is there."""
    message = TurnFinished(
        tenant="acme", task_id="task_9", step_id="step_9", fence=1, turn=turn(1)
    )
    with pytest.raises(PermanentFault, match="no task task_9"):
        await runs.record_turn(message, delivery("turn-9"), world.deps)


async def test_a_tenant_sees_only_its_own(world: World) -> None:
    """Another tenant's task id is unknown, whatever is asked or told."""
    await world.submit()
    for question in (
        tasks.get_task(GetTask(tenant="globex", task_id="task_1"), world.deps),
        tasks.list_events(
            ListTaskEvents(tenant="globex", task_id="task_1"), world.deps
        ),
        runs.cancel_task(CancelTask(tenant="globex", task_id="task_1"), world.deps),
    ):
        with pytest.raises(Refused) as refused:
            await question
        assert refused.value.envelope.problem.code is Code.NOT_FOUND
    page = await tasks.list_tasks(ListTasks(tenant="globex"), world.deps)
    assert page.tasks == ()
    with pytest.raises(PermanentFault, match="not globex's"):
        await runs.start_task(
            SubmitTask(
                task_id="task_1",
                tenant="globex",
                definition=plain("clerk", "x"),
                submitted_at=EPOCH,
            ),
            delivery("theirs"),
            world.deps,
        )


async def test_a_cancel_is_owed_once_and_wins(world: World) -> None:
    """Asking twice is one message; a late completion ends the task cancelled."""
    await world.submit()
    request = CancelTask(tenant="acme", task_id="task_1", reason="enough")
    await runs.cancel_task(request, world.deps)
    await runs.cancel_task(request, world.deps)
    cancels = [each for each in await world.owed() if isinstance(each, CancelStep)]
    assert [each.reason for each in cancels] == ["enough"]
    assert (await world.task()).status is TaskStatus.CANCELLING
    await world.finish()
    assert (await world.task()).status is TaskStatus.CANCELLED
    await runs.cancel_task(request, world.deps)


async def test_an_ended_task_refuses_a_cancel(world: World) -> None:
    """The asker learns that it came too late."""
    await world.submit()
    await world.finish()
    with pytest.raises(Refused) as refused:
        await runs.cancel_task(CancelTask(tenant="acme", task_id="task_1"), world.deps)
    assert refused.value.envelope.problem.code is Code.CONFLICT


async def test_a_deadline_fails_its_step_once(world: World) -> None:
    """Time ends what no worker ends; finished steps have no deadline."""
    await world.submit("task_1")
    await world.submit("task_2")
    await world.finish(task="task_2")
    assert await runs.fail_overdue(world.deps) == 0
    await world.clock.sleep(61)
    assert await runs.fail_overdue(world.deps) == 1
    assert await runs.fail_overdue(world.deps) == 0
    view = await world.task()
    assert view.status is TaskStatus.FAILED
    assert view.problem is not None
    assert view.problem.code is Code.DEADLINE
    assert (await world.task("task_2")).status is TaskStatus.COMPLETED


async def test_pages_lead_through_all_tasks_newest_first(world: World) -> None:
    """A cursor neither repeats nor skips, and filters hold."""
    for number in range(5):
        if number % 2:
            await world.clock.sleep(1)
        await world.submit(f"task_{number}")
    await world.finish(task="task_2")
    seen: list[str] = []
    cursor = None
    for _ in range(3):
        page = await tasks.list_tasks(
            ListTasks(tenant="acme", limit=2, cursor=cursor), world.deps
        )
        seen += [task.task_id for task in page.tasks]
        cursor = page.next_cursor
    assert cursor is None
    assert seen == ["task_4", "task_3", "task_2", "task_1", "task_0"]
    done = await tasks.list_tasks(
        ListTasks(tenant="acme", status=TaskStatus.COMPLETED, employee="clerk"),
        world.deps,
    )
    assert [task.task_id for task in done.tasks] == ["task_2"]
    with pytest.raises(Refused):
        await tasks.list_tasks(ListTasks(tenant="acme", cursor="x"), world.deps)


async def test_a_trigger_is_versioned_by_content(world: World) -> None:
    """The same document changes nothing; a dry run stores nothing."""
    first = await triggers.apply_trigger(
        ApplyTrigger(tenant="acme", trigger=trigger()), world.deps
    )
    again = await triggers.apply_trigger(
        ApplyTrigger(tenant="acme", trigger=trigger()), world.deps
    )
    changed = ApplyTrigger(tenant="acme", trigger=trigger(goal="Do."), dry_run=True)
    dry = await triggers.apply_trigger(changed, world.deps)
    second = await triggers.apply_trigger(
        changed.model_copy(update={"dry_run": False}), world.deps
    )
    assert (first.version, again.version, dry.version, second.version) == (1, 1, 2, 2)
    page = await triggers.list_triggers(ListTriggers(tenant="acme"), world.deps)
    assert page.triggers == (second,)
    theirs = await triggers.list_triggers(ListTriggers(tenant="globex"), world.deps)
    assert theirs.triggers == ()
    with pytest.raises(Refused) as refused:
        await triggers.apply_trigger(
            ApplyTrigger(tenant="acme", trigger=trigger(goal="{{ nope }}")), world.deps
        )
    assert refused.value.envelope.problem.errors[0].pointer == "/task/goal"


async def test_an_event_starts_each_waiting_trigger_once(world: World) -> None:
    """The event's identity, not its delivery, decides; the bell names both."""
    for name in ("invoices", "audit"):
        await triggers.apply_trigger(
            ApplyTrigger(tenant="acme", trigger=trigger(name)), world.deps
        )
    body = (
        b'{"specversion":"1.0","id":"e-1","source":"s","type":"t","data":{"number":7}}'
    )
    await triggers.receive_event(foreign(body, 1), world.deps)
    await triggers.receive_event(foreign(body, 2), world.deps)
    page = await tasks.list_tasks(ListTasks(tenant="acme"), world.deps)
    assert {task.triggered_by for task in page.tasks} == {"invoices:e-1", "audit:e-1"}
    assert len(page.tasks) == 2
    view = await world.task(page.tasks[0].task_id)
    assert (view.goal, view.input) == ("File 7.", {"number": 7})
    assert {bell.triggered_by for bell in world.bell.heard} == {
        "invoices:e-1",
        "audit:e-1",
    }
    requests = [each for each in await world.owed() if isinstance(each, StepRequested)]
    assert len(requests) == 2


async def test_a_trigger_that_cannot_use_an_event_stops_no_other(world: World) -> None:
    """The others start; the repaired replay starts what is missing, and only that."""
    for name, goal in (("audit", "Check."), ("invoices", "File {{ data.number }}.")):
        await triggers.apply_trigger(
            ApplyTrigger(tenant="acme", trigger=trigger(name, goal)), world.deps
        )
    for _ in range(2):  # delivered again, or replayed as it was
        with pytest.raises(PermanentFault, match=r"nothing at data\.number"):
            await triggers.receive_event(foreign(b"{}"), world.deps)
    page = await tasks.list_tasks(ListTasks(tenant="acme"), world.deps)
    assert [task.goal for task in page.tasks] == ["Check."]
    for _ in range(2):
        await triggers.receive_event(foreign(b'{"number":7}'), world.deps)
    page = await tasks.list_tasks(ListTasks(tenant="acme"), world.deps)
    assert {task.goal for task in page.tasks} == {"Check.", "File 7."}
    assert len(page.tasks) == 2
    assert len(await world.owed()) == 2


async def test_an_event_that_was_taken_starts_no_later_trigger(world: World) -> None:
    """What comes again is a repeat, also for triggers that were not there yet."""
    await triggers.receive_event(foreign(b"{}"), world.deps)
    for goal in ("File {{ data.number }}.", "Check."):
        await triggers.apply_trigger(
            ApplyTrigger(tenant="acme", trigger=trigger(goal=goal)), world.deps
        )
        await triggers.receive_event(foreign(b"{}"), world.deps)
    page = await tasks.list_tasks(ListTasks(tenant="acme"), world.deps)
    assert page.tasks == ()


async def test_requests_go_to_the_worker_of_the_tenant(world: World) -> None:
    """The outbox keeps the address without a track, and the task it is drawn by."""
    await world.submit()
    outbox = SHARED.outbox
    row = await world.database.read(lambda conn: conn.execute(outbox.select()).one())
    assert row.address == str(subjects.STEP.to("acme"))
    assert (row.receiver, row.task_key) == ("agent-runtime", "task_1")
