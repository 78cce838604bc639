"""The composed service on a simulated NATS, between a scripted worker and a gateway."""

import asyncio
from typing import Final

from contracts import subjects
from contracts.events import ApplyTrigger, Trigger, TriggerTask, TriggerVersion
from contracts.problems import Code
from contracts.steps import CancelStep, StepFinished, StepOutcome, StepRequested
from contracts.subjects import Service
from contracts.tasks import (
    CancelTask,
    GetTask,
    ListTasks,
    SubmitTask,
    TaskPage,
    TaskStatus,
    TaskView,
)
from determinism import SeededIds
from messaging.bus import Delivery, Outgoing
from messaging.refusals import Refused
from messaging.subscriptions import Work
from orchestrator.adapters.tables import OrchestratorTable
from orchestrator.app import compose
from orchestrator.domain.definition import plain
from orchestrator.settings import Settings
from persistence.database import InlineDatabase
from testkit.clock import SimulatedClock, SimulationLoop, run_simulation
from testkit.simulated_bus import (
    SimulatedBus,
    add_events_stream,
    add_work_streams,
    simulated_bus,
)
from testkit.simulated_nats import SimulatedNats

TIMEOUT_S: Final = 5.0


class Stage:
    """The orchestrator and its neighbours on one network."""

    def __init__(self, loop: SimulationLoop) -> None:
        self.clock = SimulatedClock(loop)
        self.ids = SeededIds(1)
        self.server = SimulatedNats(loop, 1)
        add_work_streams(self.server)
        add_events_stream(self.server, "acme")
        self.gateway = self._bus(Service.GATEWAY)
        self.worker = self._bus(Service.AGENT_RUNTIME)
        self.own = self._bus(Service.ORCHESTRATOR)
        self.cancelled: list[CancelStep] = []

    async def open(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Connect everyone and start the orchestrator's loops."""
        composed = compose(
            settings=Settings(database_url="inline", step_deadline_s=30),
            database=InlineDatabase.create(OrchestratorTable.metadata),
            bus=self.own,
            clock=self.clock,
            ids=self.ids,
        )
        for bus in (self.gateway, self.worker, self.own):
            await bus.connect()
        await self.own.subscribe(*composed.runnable.subscriptions)
        await self.worker.subscribe(
            Work(subjects.STEP, StepRequested, self._on_step),
            Work(subjects.CANCEL_STEP, CancelStep, self._on_cancel),
        )

        async def run(number: int) -> None:
            await composed.runnable.loops[number]()

        numbers = range(len(composed.runnable.loops))
        return [group.create_task(run(number)) for number in numbers]

    async def submit(self, task_id: str, goal: str) -> None:
        """Hand a task over as the gateway's relay does."""
        message = SubmitTask(
            task_id=task_id,
            tenant="acme",
            definition=plain("clerk", goal),
            employee="clerk",
            goal=goal,
            submitted_at=self.clock.now(),
        )
        await self._publish(self.gateway, subjects.SUBMIT, message.encode(), task_id)

    async def task(self, task_id: str) -> TaskView:
        """Ask for a task."""
        question = GetTask(tenant="acme", task_id=task_id)
        return await self.gateway.request(
            subjects.TASK_GET.to("acme"), question, TaskView, timeout_s=TIMEOUT_S
        )

    async def end(self, task_id: str) -> TaskView:
        """Wait for a task's end."""
        for _ in range(600):
            try:
                view = await self.task(task_id)
            except Refused:
                view = None
            if view is not None and view.status.is_end:
                return view
            await self.clock.sleep(0.1)
        raise AssertionError(f"{task_id} did not end")

    async def _on_step(self, request: StepRequested, _: Delivery) -> None:
        if request.goal == "Sleep.":
            return
        done = StepFinished(
            tenant=request.tenant,
            task_id=request.task_id,
            step_id=request.step_id,
            fence=1,
            outcome=StepOutcome.COMPLETED,
            output=request.goal.upper(),
            finished_at=self.clock.now(),
        )
        await self._publish(
            self.worker, subjects.STEP_FINISHED, done.encode(), request.step_id
        )

    async def _on_cancel(self, message: CancelStep, _: Delivery) -> None:
        self.cancelled.append(message)

    async def _publish(
        self, bus: SimulatedBus, verb: subjects.Verb, body: bytes, message_id: str
    ) -> None:
        await bus.publish(Outgoing(verb.to("acme"), message_id, 0, body))

    def _bus(self, service: Service) -> SimulatedBus:
        return simulated_bus(self.server, service, clock=self.clock, ids=self.ids)


async def _play(loop: SimulationLoop) -> list[str]:
    stage = Stage(loop)
    async with asyncio.TaskGroup() as group:
        loops = await stage.open(group)
        await _a_task_completes(stage)
        await _a_sleeping_worker_is_cancelled_then_overdue(stage)
        await _an_event_starts_a_task(stage)
        for task in loops:
            task.cancel()
    return sorted(each.task_id for each in stage.cancelled)


async def _a_task_completes(stage: Stage) -> None:
    await stage.submit("task_1", "File it.")
    view = await stage.end("task_1")
    assert (view.status, view.output) == (TaskStatus.COMPLETED, "FILE IT.")


async def _a_sleeping_worker_is_cancelled_then_overdue(stage: Stage) -> None:
    for task_id in ("task_2", "task_3"):
        await stage.submit(task_id, "Sleep.")
    await stage.clock.sleep(2)
    view = await stage.gateway.request(
        subjects.TASK_CANCEL.to("acme"),
        CancelTask(tenant="acme", task_id="task_2", reason="enough"),
        TaskView,
        timeout_s=TIMEOUT_S,
    )
    assert view.status is TaskStatus.CANCELLING
    assert (await stage.end("task_2")).status is TaskStatus.CANCELLED
    overdue = await stage.end("task_3")
    assert overdue.problem is not None
    assert overdue.problem.code is Code.DEADLINE


async def _an_event_starts_a_task(stage: Stage) -> None:
    task = TriggerTask(employee="clerk", goal="File {{ data.number }}.")
    trigger = Trigger(name="invoices", subject="invoice.*", task=task)
    await stage.gateway.request(
        subjects.TRIGGER_APPLY.to("acme"),
        ApplyTrigger(tenant="acme", trigger=trigger),
        TriggerVersion,
        timeout_s=TIMEOUT_S,
    )
    subject, body = "events.acme.invoice.received", b'{"number": 7}'
    stage.server.publish(subject, body, {}, "")
    await stage.clock.sleep(20)
    page = await stage.gateway.request(
        subjects.TASK_LIST.to("acme"),
        ListTasks(tenant="acme", limit=1),
        TaskPage,
        timeout_s=TIMEOUT_S,
    )
    (listed,) = page.tasks
    assert listed.triggered_by is not None
    assert listed.triggered_by.startswith("invoices:")
    assert (await stage.end(listed.task_id)).output == "FILE 7."


def test_the_composed_service_carries_tasks_to_their_end() -> None:
    """Submitted, cancelled, overdue and triggered tasks all end, over NATS alone."""
    cancelled = run_simulation(_play, limit_s=600)
    assert cancelled == ["task_2", "task_3"]
