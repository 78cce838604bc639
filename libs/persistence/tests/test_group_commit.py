"""The SQLite store: groups, savepoints, failed commits, cancellation, kill -9."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, Table, select, text

from determinism import SystemClock
from faults import PermanentFault, TransientFault
from persistence.database import Database, open_database
from persistence.sqlite_session import require_sqlite

Opened = Callable[[str], Awaitable[Database]]
DEADLINE_S = 10.0


class StandingClock(SystemClock):
    """A clock on which no time passes, so that a group gathers all that is queued."""

    def monotonic(self) -> float:
        """Return the same moment always."""
        return 0.0


@pytest.fixture
async def store(sqlite_url: str, migrations: Path) -> AsyncIterator[Database]:
    """Open an empty SQLite store whose groups are never cut short by a slow machine."""
    database = await open_database(
        sqlite_url, migrations=migrations, clock=StandingClock()
    )
    yield database
    await database.close()


def put(conn: Connection, account: Table, account_id: str) -> None:
    """Insert one account."""
    conn.execute(account.insert(), {"id": account_id, "balance": 1, "version": 1})


async def ids(database: Database, account: Table) -> set[str]:
    """Read which accounts are committed."""
    return await database.read(
        lambda conn: set(conn.execute(select(account.c.id)).scalars())
    )


class Stall:
    """A closure that keeps the writer busy until it is let go."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, conn: Connection) -> None:
        """Hold the writer thread."""
        del conn
        self.started.set()
        assert self.let_go.wait(DEADLINE_S)

    async def holds(self) -> None:
        """Return once the writer is in it."""
        assert await asyncio.to_thread(self.started.wait, DEADLINE_S)


async def stalled(store: Database) -> tuple[Stall, asyncio.Task[None]]:
    """Return a stall that the writer is in, and its transaction."""
    stall = Stall()
    task = asyncio.create_task(store.run(stall))
    await stall.holds()
    return stall, task


async def gathered(
    store: Database, *closures: Callable[[Connection], None]
) -> list[BaseException | None]:
    """Run the closures in one group; return what each raised."""
    stall, first = await stalled(store)
    tasks = [asyncio.create_task(store.run(closure)) for closure in closures]
    await asyncio.wait(tasks, timeout=0.01)  # each is queued behind the stall
    stall.let_go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(first, return_exceptions=True)
    return outcomes


async def test_failing_member_leaves_the_others(
    store: Database, account: Table
) -> None:
    """A member's error undoes that member only; the rest of its group commits."""

    def fails(conn: Connection) -> None:
        put(conn, account, "bad")
        raise ValueError("mine alone")

    outcomes = await gathered(
        store,
        lambda conn: put(conn, account, "a"),
        fails,
        lambda conn: put(conn, account, "b"),
    )
    assert outcomes[0] is None
    assert isinstance(outcomes[1], ValueError)
    assert outcomes[2] is None
    assert await ids(store, account) == {"a", "b"}


async def test_failed_commit_fails_every_member(
    store: Database, account: Table
) -> None:
    """When COMMIT fails (here: a deferred foreign key), no member was ever told yes."""
    await store.run(
        lambda conn: conn.execute(
            text(
                "CREATE TABLE child (id INTEGER PRIMARY KEY, parent TEXT "
                "REFERENCES account(id) DEFERRABLE INITIALLY DEFERRED)"
            )
        )
    )

    def orphan(conn: Connection) -> None:
        conn.execute(text("INSERT INTO child (parent) VALUES ('nobody')"))

    def raises(conn: Connection) -> None:
        put(conn, account, "c")
        raise KeyError("its own")

    outcomes = await gathered(
        store, lambda conn: put(conn, account, "a"), orphan, raises
    )
    assert isinstance(outcomes[0], TransientFault)
    assert isinstance(outcomes[1], TransientFault)
    assert isinstance(outcomes[2], KeyError)
    assert await ids(store, account) == set()
    await store.run(lambda conn: put(conn, account, "later"))
    assert await ids(store, account) == {"later"}


async def test_full_disk_fails_every_member_and_recovers(
    store: Database, account: Table
) -> None:
    """A full disk ends the transaction by itself: all hear of it, none is half done."""

    def limit(conn: Connection) -> None:
        pages = conn.execute(text("PRAGMA page_count")).scalar_one()
        conn.execute(text(f"PRAGMA max_page_count={pages + 2}"))

    def fill(conn: Connection) -> None:
        row = {"id": "big", "balance": 1, "version": 1, "note": "x" * 1_000_000}
        conn.execute(account.insert(), row)

    await store.run(limit)
    outcomes = await gathered(store, lambda conn: put(conn, account, "a"), fill)
    assert isinstance(outcomes[1], TransientFault)
    committed = await ids(store, account)
    assert committed == ({"a"} if outcomes[0] is None else set())

    def lift(conn: Connection) -> None:
        conn.execute(text("PRAGMA max_page_count=1000000"))

    await store.run(lift)
    await store.run(fill)
    assert "big" in await ids(store, account)


async def test_closure_must_not_commit(store: Database, account: Table) -> None:
    """A closure that commits or rolls back by itself fails, and harms no other."""

    def commits(conn: Connection) -> None:
        put(conn, account, "bad")
        conn.commit()

    def rolls_back(conn: Connection) -> None:
        put(conn, account, "worse")
        conn.rollback()

    def forgets(conn: Connection) -> None:
        conn.begin_nested()
        put(conn, account, "half")

    outcomes = await gathered(
        store,
        lambda conn: put(conn, account, "a"),
        commits,
        rolls_back,
        forgets,
        lambda conn: put(conn, account, "b"),
    )
    assert [type(each) for each in outcomes] == [
        type(None),
        RuntimeError,
        RuntimeError,
        RuntimeError,
        type(None),
    ]
    assert await ids(store, account) == {"a", "b"}


async def test_cancelled_before_pick_up_never_runs(
    store: Database, account: Table
) -> None:
    """A transaction that is cancelled while it queues is removed."""
    stall, first = await stalled(store)
    waiting = asyncio.create_task(store.run(lambda conn: put(conn, account, "a")))
    await asyncio.wait({waiting}, timeout=0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not first.done()
    stall.let_go.set()
    await first
    assert await ids(store, account) == set()


async def test_cancelled_after_pick_up_waits_for_the_outcome(
    store: Database, account: Table
) -> None:
    """Once picked up, the commit is known before the cancellation goes on."""
    stall = Stall()

    def transaction(conn: Connection) -> None:
        put(conn, account, "a")
        stall(conn)

    running = asyncio.create_task(store.run(transaction))
    await stall.holds()
    running.cancel()
    await asyncio.wait({running}, timeout=0.02)
    running.cancel()  # a second one changes nothing
    await asyncio.wait({running}, timeout=0.02)
    assert not running.done()
    stall.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await ids(store, account) == {"a"}


async def test_read_never_waits_for_the_writer(store: Database, account: Table) -> None:
    """While a group is open, a read answers from the last commit."""
    await store.run(lambda conn: put(conn, account, "a"))
    stall, first = await stalled(store)
    async with asyncio.timeout(DEADLINE_S / 2):
        assert await ids(store, account) == {"a"}
        await store.check()
    stall.let_go.set()
    await first


async def test_full_queue_is_refused_at_once(store: Database) -> None:
    """Overload is a transient fault that says when to come back."""
    stall, first = await stalled(store)
    waiting = [asyncio.create_task(store.run(_nothing)) for _ in range(4_096)]
    await asyncio.wait(waiting, timeout=0.01)
    with pytest.raises(TransientFault, match="waiting for the store") as refusal:
        await store.run(_nothing)
    assert refusal.value.retry_after_s is not None
    stall.let_go.set()
    await asyncio.gather(first, *waiting)


def _nothing(conn: Connection) -> None:
    del conn


async def test_two_processes_take_turns(
    opened: Opened, sqlite_url: str, account: Table
) -> None:
    """Two replicas write to one file at full speed, and neither starves."""
    stores = [await opened(sqlite_url), await opened(sqlite_url)]
    assert stores[0].store_id == stores[1].store_id
    done = [0, 0]
    finished = asyncio.Event()

    async def hammer(which: int, lane: int) -> None:
        for count in range(500):
            if finished.is_set():
                return
            key = f"{which}-{lane}-{count}"
            await stores[which].run(lambda conn, key=key: put(conn, account, key))
            done[which] += 1
            if min(done) >= 100:
                finished.set()

    lanes = [hammer(which, lane) for which in (0, 1) for lane in range(8)]
    async with asyncio.timeout(3 * DEADLINE_S):
        await asyncio.gather(*lanes)
    assert len(await ids(stores[0], account)) == sum(done)
    assert min(done) * 5 >= max(done), done


class LeapingClock(SystemClock):
    """A clock on which a second passes with every look."""

    def __init__(self) -> None:
        self._looks = 0

    def monotonic(self) -> float:
        """Return one second more than before."""
        self._looks += 1
        return float(self._looks)


async def test_stuck_other_writer_is_a_transient_fault(
    opened: Opened, sqlite_url: str, migrations: Path, account: Table
) -> None:
    """A write lock that another process never gives up fails whoever waits for it."""
    other = await opened(sqlite_url)
    impatient = await open_database(
        sqlite_url, migrations=migrations, clock=LeapingClock()
    )
    stall, first = await stalled(other)
    try:
        with pytest.raises(TransientFault, match="stuck"):
            await impatient.run(lambda conn: put(conn, account, "a"))
    finally:
        stall.let_go.set()
        await first
    await impatient.run(lambda conn: put(conn, account, "b"))
    assert await ids(impatient, account) == {"b"}
    await impatient.close()


async def test_replaced_file_is_not_ready(store: Database, sqlite_url: str) -> None:
    """A store whose file was deleted under it says so instead of writing to a ghost."""
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    await asyncio.to_thread(file.unlink)
    with pytest.raises(TransientFault, match="removed or replaced"):
        await store.check()


def test_old_sqlite_is_refused() -> None:
    """SQLite before 3.51.3 can lose commits: the start fails and says what to do."""
    with pytest.raises(PermanentFault, match=r"3\.51\.2.*install pysqlite3"):
        require_sqlite((3, 51, 2))
    require_sqlite((3, 51, 3))
    require_sqlite()


WRITER = """
import asyncio, sys
from pathlib import Path
from sqlalchemy import text
from determinism import SystemClock
from persistence.database import open_database

async def main():
    url, folder = sys.argv[1:]
    store = await open_database(url, migrations=Path(folder), clock=SystemClock())
    insert = text("INSERT INTO account (id, balance, version) VALUES (:id, 1, 1)")
    async def write(lane):
        for count in range(100_000):
            row = {"id": f"{lane}-{count}"}
            await store.run(lambda conn: conn.execute(insert, row) and None)
            print(row["id"], flush=True)
    await asyncio.gather(*(write(lane) for lane in range(8)))

asyncio.run(main())
"""


async def test_killed_process_loses_nothing_it_was_told(
    opened: Opened, sqlite_url: str, migrations: Path, account: Table
) -> None:
    """After kill -9, every row whose commit was reported is there."""
    writer = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", WRITER, sqlite_url, str(migrations)),
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert writer.stdout is not None
    told = [await writer.stdout.readline() for _ in range(300)]
    writer.kill()
    told += (await writer.stdout.read()).splitlines(keepends=True)
    await writer.wait()
    # The last line may be cut by the kill.
    reported = {line.decode().strip() for line in told if line.endswith(b"\n")}
    assert len(reported) >= 300
    assert reported <= await ids(await opened(sqlite_url), account)


async def test_unmigrated_store_is_refused_when_told_not_to_migrate(
    sqlite_url: str, migrations: Path
) -> None:
    """Where a deploy step migrates, a service waits for it."""
    with pytest.raises(TransientFault, match="persistence migrate"):
        await open_database(
            sqlite_url, migrations=migrations, clock=SystemClock(), migrate=False
        )
