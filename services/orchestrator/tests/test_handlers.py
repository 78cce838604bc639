"""Handlers over the real SQL adapter on an inline store, with a bell that is heard."""

import pytest
from orchestrator_world import EPOCH, World, attempt, delivery, turn

from contracts import subjects
from contracts.problems import Code
from contracts.steps import CancelStep, StepFinished, StepOutcome
from contracts.tasks import (
    CancelTask,
    GetTask,
    ListTaskEvents,
    ListTasks,
    SubmitTask,
    TaskStatus,
)
from contracts.turns import TurnFinished
from faults import PermanentFault, TransientFault
from messaging.refusals import Refused
from orchestrator.adapters.tables import SHARED, OrchestratorTable
from orchestrator.domain.definition import plain
from orchestrator.handlers import runs, tasks


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


async def test_one_unreadable_run_hides_no_deadline(world: World) -> None:
    """A newer version's run waits for a newer replica; the others end in time."""
    await world.submit("task_1")
    await world.clock.sleep(1)
    await world.submit("task_2")
    run = OrchestratorTable.metadata.tables["run"]
    spoil = run.update().where(run.c.task_id == "task_1").values(state=b"{}")
    await world.database.run(lambda conn: conn.execute(spoil))
    await world.clock.sleep(61)
    assert await runs.fail_overdue(world.deps) == 2
    assert (await world.task("task_2")).status is TaskStatus.FAILED
    assert await runs.fail_overdue(world.deps) == 0
    await world.clock.sleep(60)
    assert await runs.fail_overdue(world.deps) == 1
    with pytest.raises(TransientFault, match="cannot read"):
        await world.task("task_1")


async def test_a_late_word_is_counted_without_an_event(world: World) -> None:
    """Sums grow after the end, once; history, status and bells stay as they were."""
    await world.submit()
    await world.clock.sleep(61)
    await runs.fail_overdue(world.deps)
    before, bells = await world.task(), len(world.bell.heard)
    word = StepFinished(
        tenant="acme",
        task_id="task_1",
        step_id=before.steps[0].step_id,
        fence=1,
        outcome=StepOutcome.CANCELLED,
        attempts=(attempt(),),
        finished_at=world.clock.now(),
    )
    for name in ("late", "late", "later"):
        await runs.advance_task(word, delivery(name), world.deps)
    after = await world.task()
    assert (before.attempts, after.attempts) == (0, 1)
    assert after.model_copy(update={"attempts": 0, "usage": before.usage}) == before
    assert len(world.bell.heard) == bells


async def test_ended_tasks_are_forgotten_in_their_time(world: World) -> None:
    """A task goes with its history once it ended long ago; a running one stays."""
    await world.submit("task_1")
    await world.submit("task_2")
    await world.finish(task="task_2")
    await world.clock.sleep(89 * 86_400)
    assert await runs.prune(world.deps) == 0
    assert (await world.task("task_2")).status is TaskStatus.COMPLETED
    await world.clock.sleep(2 * 86_400)
    assert await runs.prune(world.deps) == 1
    page = await tasks.list_tasks(ListTasks(tenant="acme"), world.deps)
    assert [task.task_id for task in page.tasks] == ["task_1"]
    with pytest.raises(Refused):
        await world.task("task_2")
    await world.submit("task_1")
    await world.finish(task="task_1", message_id="finish-2")
    assert (await world.task("task_1")).status is TaskStatus.COMPLETED
    events = OrchestratorTable.metadata.tables["run_event"]
    left = await world.database.read(lambda conn: conn.execute(events.select()).all())
    assert {row.task_id for row in left} == {"task_1"}


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


async def test_requests_go_to_the_worker_of_the_tenant(world: World) -> None:
    """The outbox keeps the address without a track, and the task it is drawn by."""
    await world.submit()
    outbox = SHARED.outbox
    row = await world.database.read(lambda conn: conn.execute(outbox.select()).one())
    assert row.address == str(subjects.STEP.to("acme"))
    assert (row.receiver, row.task_key) == ("agent-runtime", "task_1")
