"""One function per consumed subject: decode, call, let the framework settle."""

from contracts import subjects
from contracts.events import ApplyTrigger, ListTriggers, TriggerPage, TriggerVersion
from contracts.steps import StepFinished
from contracts.tasks import (
    CancelTask,
    GetTask,
    ListTaskEvents,
    ListTasks,
    SubmitTask,
    TaskEventPage,
    TaskPage,
    TaskView,
)
from contracts.turns import TurnFinished
from messaging.bus import Delivery
from messaging.subscriptions import Answer, Events, ForeignEvent, Subscription, Work
from orchestrator.handlers import runs, tasks, triggers
from orchestrator.ports import Deps


def subscriptions(deps: Deps) -> tuple[Subscription, ...]:
    """Return everything that the orchestrator listens to."""

    async def on_task_submitted(message: SubmitTask, delivery: Delivery) -> None:
        await runs.start_task(message, delivery, deps)

    async def on_turn_finished(message: TurnFinished, delivery: Delivery) -> None:
        await runs.record_turn(message, delivery, deps)

    async def on_step_finished(message: StepFinished, delivery: Delivery) -> None:
        await runs.advance_task(message, delivery, deps)

    async def on_event(event: ForeignEvent) -> None:
        await triggers.receive_event(event, deps)

    return (
        Work(subjects.SUBMIT, SubmitTask, on_task_submitted),
        Work(subjects.TURN, TurnFinished, on_turn_finished),
        Work(subjects.STEP_FINISHED, StepFinished, on_step_finished),
        Events(on_event),
        *_answers(deps),
    )


def _answers(deps: Deps) -> tuple[Subscription, ...]:
    async def on_get_task(request: GetTask, _: Delivery) -> TaskView:
        return await tasks.get_task(request, deps)

    async def on_list_tasks(request: ListTasks, _: Delivery) -> TaskPage:
        return await tasks.list_tasks(request, deps)

    async def on_list_events(request: ListTaskEvents, _: Delivery) -> TaskEventPage:
        return await tasks.list_events(request, deps)

    async def on_cancel_task(request: CancelTask, _: Delivery) -> TaskView:
        await runs.cancel_task(request, deps)
        task = GetTask(tenant=request.tenant, task_id=request.task_id)
        return await tasks.get_task(task, deps)

    async def on_apply_trigger(request: ApplyTrigger, _: Delivery) -> TriggerVersion:
        return await triggers.apply_trigger(request, deps)

    async def on_list_triggers(request: ListTriggers, _: Delivery) -> TriggerPage:
        return await triggers.list_triggers(request, deps)

    return (
        Answer(subjects.TASK_GET, GetTask, on_get_task),
        Answer(subjects.TASK_LIST, ListTasks, on_list_tasks),
        Answer(subjects.TASK_EVENTS, ListTaskEvents, on_list_events),
        Answer(subjects.TASK_CANCEL, CancelTask, on_cancel_task),
        Answer(subjects.TRIGGER_APPLY, ApplyTrigger, on_apply_trigger),
        Answer(subjects.TRIGGER_LIST, ListTriggers, on_list_triggers),
    )
