"""The store on SQLite, PostgreSQL and inline: one suite."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from agent_world import CLERK, EndState, attempt

from agent_runtime.adapters.sql import SqlStore, known_steps
from agent_runtime.adapters.tables import RuntimeTable
from agent_runtime.domain.step import (
    Step,
    completed,
    step_finished,
    turn_finished,
)
from agent_runtime.domain.transcript import Turn
from contracts.completions import (
    Completion,
    FinishReason,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from contracts.employees import EmployeeVersion
from contracts.steps import StepRequested
from contracts.usage import TokenUsage
from determinism import SystemClock
from persistence.database import Database, InlineDatabase, open_database
from persistence.migrations import differences

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
MIGRATIONS = Path(__file__).parents[1] / "migrations"
BRIEF = StepRequested(
    tenant="acme",
    task_id="task_one",
    step_id="step_one",
    employee="clerk",
    goal="Zählen Sie \x00 nach",
    input={"a": None},
    deadline=NOW,
)
STEP = Step("acme", "task_one", "step_one", "bell", BRIEF, 1, NOW, carrier={"t": "1"})
ASKED = Turn(
    1,
    Completion(
        completion_id="step_one:1",
        vendor="sandbox",
        model="m",
        parts=(ToolCallPart(call_id="c", name="read_file", arguments="{"),),
        finish_reason=FinishReason.TOOL_CALLS,
        usage=TokenUsage(),
        attempts=(attempt("attempt_a", EndState.COMPLETED),),
        created_at=NOW,
    ),
    NOW,
    NOW,
)
DONE = ASKED.performed(
    [ToolResultPart(call_id="c", content=(TextPart(text="\x00"),), is_error=True)], NOW
)


class Opened:
    """A store, and what it told to wake."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.woken: list[str] = []

    def store(self, owner: str) -> SqlStore:
        """Return the store as one replica has it."""
        return SqlStore(
            self.database,
            SystemClock(),
            self._wake,
            owner=owner,
            lease_duration=timedelta(seconds=10),
        )

    def _wake(self, message_ids: Sequence[str]) -> None:
        self.woken += message_ids


@pytest.fixture(params=["inline", "sqlite", "postgresql"])
async def opened(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Opened]:
    """Return an empty store of each kind in turn."""
    if request.param == "inline":
        yield Opened(InlineDatabase.create(RuntimeTable.metadata))
        return
    url = f"sqlite:///{tmp_path}/store.sqlite3"
    if request.param == "postgresql":
        url = str(request.getfixturevalue("postgres_url"))
    database = await open_database(url, migrations=MIGRATIONS, clock=SystemClock())
    yield Opened(database)
    await database.close()


async def test_step_and_transcript_come_back_as_they_went(opened: Opened) -> None:
    """What is stored is what is read, to the microsecond and the NUL."""
    store = opened.store("a")
    assert await store.run(lambda work: work.steps.enter(STEP))
    assert not await store.run(
        lambda work: work.steps.enter(replace(STEP, task_id="x"))
    )
    assert await store.read(lambda work: work.steps.get("step_one")) == STEP
    await store.run(lambda work: work.steps.append("step_one", 1, ASKED))
    assert await store.read(lambda work: work.steps.transcript("step_one")) == (ASKED,)
    await store.run(lambda work: work.steps.append("step_one", 2, DONE))
    await store.run(lambda work: work.steps.append("step_one", 3, DONE))
    assert await store.read(lambda work: work.steps.transcript("step_one")) == (DONE,)
    vain = (attempt("attempt_b", EndState.CUT),)
    for _ in range(2):
        await store.run(lambda work: work.steps.note_attempts("step_one", vain))
    assert await store.read(lambda work: work.steps.attempts("step_one")) == vain
    known = await opened.database.read(lambda conn: known_steps(conn, ["bell", "no"]))
    assert known == {"bell"}


async def test_lease_is_one_replica_s_at_a_time(opened: Opened) -> None:
    """Claims exclude, fences rise, flags stay, tombstones last."""
    a, b, later = opened.store("a"), opened.store("b"), NOW + timedelta(seconds=11)
    first = await a.run(lambda work: work.leases.claim("step_one", NOW))
    assert first is not None
    assert await b.run(lambda work: work.leases.claim("step_one", NOW)) is None
    assert await b.run(lambda work: work.leases.ask_to_cancel("step_one", NOW))
    renewed = await a.run(lambda work: work.leases.renew(first, NOW))
    assert renewed is not None
    assert renewed.wants_cancel
    assert await b.read(lambda work: work.leases.unheld(later, 9)) == ["step_one"]
    second = await b.run(lambda work: work.leases.claim("step_one", later))
    assert second is not None
    assert second.fence == 2
    assert await a.run(lambda work: work.leases.renew(first, later)) is None
    assert not await a.run(lambda work: work.leases.finish(first))
    assert await b.run(lambda work: work.leases.finish(second))
    assert not await b.run(lambda work: work.leases.ask_to_cancel("step_one", later))


async def test_shelved_step_waits_for_anyone(opened: Opened) -> None:
    """A step without a seat is found by the sweeper at once, and shelved once."""
    a, b = opened.store("a"), opened.store("b")
    await a.run(lambda work: work.leases.shelve("step_one", NOW))
    await a.run(lambda work: work.leases.shelve("step_one", NOW))
    assert await b.read(lambda work: work.leases.unheld(NOW, 9)) == ["step_one"]
    lease = await b.run(lambda work: work.leases.claim("step_one", NOW))
    assert lease is not None
    assert lease.fence == 2


async def test_owed_messages_are_woken_after_the_commit(opened: Opened) -> None:
    """The relay hears of rows that exist, and of none that were rolled back."""
    store = opened.store("a")
    owed = (turn_finished(STEP, DONE, 1), step_finished(STEP, completed(1), NOW))
    await store.run(lambda work: work.outbox.add(owed, NOW))
    assert opened.woken == ["step_one:1:turn", "step_one:finished"]

    class Undo(Exception):
        pass

    def fails(work: object) -> None:
        raise Undo

    with pytest.raises(Undo):
        await store.run(fails)
    assert len(opened.woken) == 2


async def test_employees_are_versions_of_a_tenant(opened: Opened) -> None:
    """A number is given once; the newest is in force."""
    store = opened.store("a")
    one = EmployeeVersion(
        tenant="acme", version=1, digest="d", employee=CLERK, created_at=NOW
    )
    two = one.model_copy(update={"version": 2})
    assert await store.run(lambda work: work.employees.add(one))
    assert await store.run(lambda work: work.employees.add(two))
    assert not await store.run(lambda work: work.employees.add(two))
    assert await store.read(lambda work: work.employees.newest("acme", "clerk")) == two
    assert await store.read(lambda work: work.employees.get("acme", "clerk", 1)) == one
    assert await store.read(lambda work: work.employees.newest("b", "clerk")) is None
    assert await store.read(lambda work: work.employees.page("acme", 9, None)) == [two]
    assert await store.read(lambda work: work.employees.page("acme", 9, "clerk")) == []


async def test_migrations_build_what_the_code_declares(opened: Opened) -> None:
    """A table that only one of them knows would be found by the first user."""
    if isinstance(opened.database, InlineDatabase):
        return
    found = await opened.database.read(
        lambda conn: differences(conn, RuntimeTable.metadata)
    )
    assert list(found) == []
