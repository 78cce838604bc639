"""The store on a SQLite file and on PostgreSQL: one suite, each on real servers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from contracts.completions import FinishReason
from contracts.events import Trigger, TriggerTask, TriggerVersion
from contracts.steps import StepFinished, StepOutcome
from contracts.tasks import GetTask, ListTaskEvents, ListTasks, SubmitTask, TaskStatus
from contracts.turns import TurnFinished, TurnRecord
from determinism import SystemClock
from faults import TransientFault
from messaging.bus import Delivery
from orchestrator.adapters.sql import SqlStore
from orchestrator.adapters.tables import OrchestratorTable
from orchestrator.domain import run as reducer
from orchestrator.domain.cursor import Cursor
from orchestrator.domain.decision import Decision
from orchestrator.domain.definition import plain
from orchestrator.domain.state import Run
from orchestrator.handlers import runs, tasks
from orchestrator.ports import Deps, Work
from persistence.database import Database, open_database
from persistence.migrations import differences

MIGRATIONS: Final = Path(__file__).parents[1] / "migrations"
EPOCH: Final = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)


class SilentBell:
    """Rings for nobody."""

    async def ring(self, changed: object) -> None:
        """Do nothing."""


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Database]:
    """Return a migrated store of each kind in turn."""
    url = f"sqlite:///{tmp_path}/store.sqlite3"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    opened = await open_database(url, migrations=MIGRATIONS, clock=SystemClock())
    yield opened
    await opened.close()


@pytest.fixture
def store(database: Database) -> SqlStore:
    """Return the orchestrator's store on it."""

    def wake(message_ids: Sequence[str]) -> None:
        assert message_ids

    return SqlStore(database, SystemClock(), wake, dict)


@pytest.fixture
def deps(store: SqlStore) -> Deps:
    """Return what handlers need."""
    return Deps(store, SilentBell(), SystemClock(), step_deadline_s=60)


def brief(task_id: str, at: datetime = EPOCH) -> SubmitTask:
    """Build a submission."""
    return SubmitTask(
        task_id=task_id,
        tenant="acme",
        definition=plain("clerk", "File it."),
        employee="clerk",
        goal="File\0it.",
        submitted_at=at,
    )


def opened(work: Work, submitted: SubmitTask) -> bool:
    """Insert a run."""
    decision = reducer.start(submitted, EPOCH, reducer.Origin(60))
    return work.create(decision, submitted)


def delivery(message_id: str) -> Delivery:
    """Build what comes beside a message."""
    return Delivery("work.orchestrator.stable.any.acme", message_id, "acme")


def turn(number: int, text: str = "") -> TurnRecord:
    """Build a turn."""
    return TurnRecord(
        turn=number,
        text=text,
        model="m",
        vendor="v",
        finish_reason=FinishReason.STOP,
        started_at=EPOCH,
        finished_at=EPOCH,
    )


async def test_migrations_build_what_the_tables_declare(database: Database) -> None:
    """The schema on disk is the one that the code writes to."""
    metadata = OrchestratorTable.metadata
    assert await database.read(lambda conn: differences(conn, metadata)) == []


async def test_a_run_comes_back_as_it_was_saved(store: SqlStore) -> None:
    """Every field survives, whatever characters a user typed."""
    submitted = brief("task_1")
    assert await store.run(lambda work: opened(work, submitted))
    assert not await store.run(lambda work: opened(work, submitted))
    expected = reducer.start(submitted, EPOCH, reducer.Origin(60))
    found = await store.read(lambda work: work.find("acme", "task_1"))
    assert found == Run(
        **{
            name: getattr(expected.run, name)
            for name in Run.__dataclass_fields__
            if name != "version"
        },
        version=1,
    )
    assert await store.read(lambda work: work.brief("acme", "task_1")) == submitted
    history = await store.read(lambda work: work.history("acme", "task_1", 0, 10))
    assert tuple(history) == expected.events
    assert await store.read(lambda work: work.find("globex", "task_1")) is None
    assert await store.read(lambda work: work.brief("globex", "task_1")) is None


async def test_a_stale_version_is_not_saved(store: SqlStore) -> None:
    """Whoever decided on an old state is told to decide again."""
    await store.run(lambda work: opened(work, brief("task_1")))
    run = await store.read(lambda work: work.find("acme", "task_1"))
    assert run is not None
    decision = reducer.cancel(run, None, EPOCH)
    assert isinstance(decision, Decision)
    await store.run(lambda work: work.save(decision))
    with pytest.raises(TransientFault):
        await store.run(lambda work: work.save(decision))


async def test_a_page_breaks_ties_by_id(store: SqlStore) -> None:
    """Tasks of the same microsecond are neither skipped nor repeated."""
    for number in range(4):
        at = EPOCH + timedelta(seconds=number // 2)
        submitted = brief(f"task_{number}", at)
        await store.run(lambda work, each=submitted: opened(work, each))
    request = ListTasks(tenant="acme", limit=1)
    cursor: Cursor | None = None
    seen: list[str] = []
    for _ in range(4):
        found = await store.read(lambda work, after=cursor: work.page(request, after))
        seen.append(found[0].task_id)
        cursor = Cursor(found[0].created_at, found[0].task_id)
    assert seen == ["task_3", "task_2", "task_1", "task_0"]


async def test_only_the_newest_trigger_version_counts(store: SqlStore) -> None:
    """Older versions stay, and are not in force."""
    task = TriggerTask(employee="clerk", goal="Go.")
    versions = [
        TriggerVersion(
            tenant="acme",
            version=version,
            digest=str(version),
            trigger=Trigger(name=name, subject="a", task=task),
            created_at=EPOCH,
        )
        for name, version in (("b", 1), ("b", 2), ("a", 1))
    ]
    for each in versions:
        await store.run(lambda work, one=each: work.add_trigger(one))
    found = await store.read(lambda work: work.triggers("acme"))
    assert list(found) == [versions[2], versions[1]]
    with pytest.raises(TransientFault):
        await store.run(lambda work: work.add_trigger(versions[0]))


async def test_concurrent_messages_of_one_task_all_count(deps: Deps) -> None:
    """Whatever arrives at once: every turn once and in order, one end, no gap."""
    await runs.start_task(brief("task_1"), delivery("submit"), deps)
    question = GetTask(tenant="acme", task_id="task_1")
    step_id = (await tasks.get_task(question, deps)).steps[0].step_id

    async def turns(number: int) -> None:
        message = TurnFinished(
            tenant="acme",
            task_id="task_1",
            step_id=step_id,
            fence=1,
            turn=turn(number),
        )
        await runs.record_turn(message, delivery(f"turn-{number}"), deps)

    numbers = range(1, 9)
    async with asyncio.TaskGroup() as group:
        for number in (*reversed(numbers), *numbers):
            group.create_task(turns(number))
    finish = StepFinished(
        tenant="acme",
        task_id="task_1",
        step_id=step_id,
        fence=1,
        outcome=StepOutcome.COMPLETED,
        turns=tuple(turn(number) for number in numbers),
        finished_at=EPOCH,
    )
    async with asyncio.TaskGroup() as group:
        for name in ("a", "a", "b"):
            group.create_task(runs.advance_task(finish, delivery(name), deps))
    view = await tasks.get_task(question, deps)
    assert view.status is TaskStatus.COMPLETED
    assert [each.turn for each in view.steps[0].turns] == list(numbers)
    assert view.last_seq == 2 + 8 + 2


async def test_a_worker_that_finishes_at_its_deadline_is_no_deadlock(
    store: SqlStore,
) -> None:
    """Time and workers end the same steps at once: each ends once, no one waits."""
    deps = Deps(store, SilentBell(), SystemClock(), step_deadline_s=0.001)
    names = [f"task_{number}" for number in range(20)]
    for name in names:
        await runs.start_task(brief(name), delivery(name), deps)
    finishes = [
        StepFinished(
            tenant="acme",
            task_id=name,
            step_id=(await tasks.get_task(GetTask(tenant="acme", task_id=name), deps))
            .steps[0]
            .step_id,
            fence=1,
            outcome=StepOutcome.COMPLETED,
            finished_at=EPOCH,
        )
        for name in names
    ]
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(runs.fail_overdue(deps))
        for each in reversed(finishes):
            done = delivery(f"finish-{each.task_id}")
            group.create_task(runs.advance_task(each, done, deps))
    page = await tasks.list_tasks(ListTasks(tenant="acme"), deps)
    assert len(page.tasks) == len(names)
    assert all(task.status.is_end and task.last_seq == 4 for task in page.tasks)


async def test_old_runs_go_in_batches(store: SqlStore) -> None:
    """Two replicas that prune at once take as many as there are, and no others."""
    for number in range(5):
        submitted = brief(f"task_{number}")
        await store.run(lambda work, each=submitted: opened(work, each))
        if number:
            run = await store.read(
                lambda work, n=number: work.find("acme", f"task_{n}")
            )
            assert run is not None
            ended = EPOCH + timedelta(seconds=number)
            decision = reducer.deadline_passed(run, run.active[0].step_id, ended)
            await store.run(lambda work, done=decision: work.save(done))
    before = EPOCH + timedelta(seconds=4)
    assert await store.run(lambda work: work.prune(before, 2)) == 2
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(store.run(lambda work: work.prune(before, 2)))
    left = await store.read(lambda work: work.page(ListTasks(tenant="acme"), None))
    assert [run.task_id for run in left] == ["task_4", "task_0"]
    assert not await store.read(lambda work: work.history("acme", "task_1", 0, 9))
    assert await store.read(lambda work: work.brief("acme", "task_1")) is None


async def test_large_histories_come_in_several_pages(deps: Deps) -> None:
    """No reply outgrows a message: pages end early, and nothing is left out."""
    await runs.start_task(brief("task_1"), delivery("submit"), deps)
    question = GetTask(tenant="acme", task_id="task_1")
    step_id = (await tasks.get_task(question, deps)).steps[0].step_id
    for number in range(1, 9):
        bell = TurnFinished(
            tenant="acme",
            task_id="task_1",
            step_id=step_id,
            fence=1,
            turn=turn(number, "x" * 100_000),
        )
        await runs.record_turn(bell, delivery(f"turn-{number}"), deps)
    seen: list[int] = []
    for _ in range(10):
        after = seen[-1] if seen else 0
        page = await tasks.list_events(
            ListTaskEvents(tenant="acme", task_id="task_1", after=after), deps
        )
        assert len(page.encode()) < 500_000
        seen += [event.seq for event in page.events]
        if seen[-1] == page.last_seq:
            break
    assert seen == list(range(1, 11))
    shown = (await tasks.get_task(question, deps)).steps[0].turns
    assert [each.turn for each in shown] == [6, 7, 8]
