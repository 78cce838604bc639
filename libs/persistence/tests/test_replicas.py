"""Two replicas on one store: migrations, claims, and what the server does to us."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import Connection, MetaData, Table, select, text

from determinism import SystemClock
from faults import PermanentFault, TransientFault
from persistence.database import Database, open_database
from persistence.lease import Leases
from persistence.migrations import differences
from persistence.outbox import Outbox, OutboxMessage
from persistence.tables import SharedTables
from persistence.timer import Timers

Opened = Callable[[str], Awaitable[Database]]
HOLD = timedelta(seconds=10)
NO_AGE = timedelta(0)
ROWS = 200


@pytest.fixture
async def replicas(opened: Opened, url: str) -> list[Database]:
    """Return two openings of one store."""
    return [await opened(url), await opened(url)]


async def drained(
    replicas: list[Database], claim: Callable[[str, Connection], list[str]]
) -> Counter[str]:
    """Let four workers on two replicas claim until nothing is left; count each row."""
    got: Counter[str] = Counter()

    async def work(worker: int) -> None:
        database = replicas[worker % 2]
        for _ in range(ROWS):
            rows = await database.run(lambda conn: claim(f"w{worker}", conn))
            if not rows:
                return
            got.update(rows)

    await asyncio.gather(*(work(worker) for worker in range(4)))
    return got


async def test_each_outbox_row_is_claimed_by_one(
    replicas: list[Database], tables: SharedTables, now: datetime
) -> None:
    """Competing sweepers never get the same row."""
    owed = [OutboxMessage(str(n), "work.x", "x", b"") for n in range(ROWS)]
    await replicas[0].run(lambda conn: Outbox(conn, tables).add(owed, now))

    def claim(owner: str, conn: Connection) -> list[str]:
        rows = Outbox(conn, tables).claim_unsent(owner, now, NO_AGE, HOLD, 7)
        return [row.message_id for row in rows]

    got = await drained(replicas, claim)
    assert got == Counter(str(n) for n in range(ROWS))


async def test_each_timer_is_taken_by_one(
    replicas: list[Database], tables: SharedTables, now: datetime
) -> None:
    """Competing timer loops act once on each timer."""

    def set_timers(conn: Connection) -> None:
        for n in range(ROWS):
            Timers(conn, tables).set(str(n), "k", now, b"")

    await replicas[0].run(set_timers)

    def claim(_owner: str, conn: Connection) -> list[str]:
        return [timer.timer_id for timer in Timers(conn, tables).claim_due(now, 7)]

    assert await drained(replicas, claim) == Counter(str(n) for n in range(ROWS))


async def test_each_lease_is_held_by_one(
    replicas: list[Database], tables: SharedTables, now: datetime
) -> None:
    """Of many workers that ring for one step, one gets it."""

    def claim(owner: str) -> Callable[[Connection], bool]:
        return lambda conn: (
            Leases(conn, tables).claim("s", "step", owner, now, HOLD) is not None
        )

    held = await asyncio.gather(
        *(replicas[n % 2].run(claim(f"w{n}")) for n in range(20))
    )
    assert sum(held) == 1


async def test_concurrent_starters_migrate_once(
    url: str, migrations: Path, metadata: MetaData
) -> None:
    """Three processes start on an empty store: one migrates, all find one identity."""
    command = [sys.executable, "-m", "persistence", "migrate", url, str(migrations)]
    starters = [
        await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    said = [await starter.communicate() for starter in starters]
    assert [out for out, _ in said] == [b"at revision 0002\n"] * 3, said
    database = await open_database(url, migrations=migrations, clock=SystemClock())
    try:
        assert database.store_id.startswith("store_")
        await database.check()
        found = await database.read(lambda conn: differences(conn, metadata))
        assert found == []  # create_shared_v1 builds what tables.py declares
    finally:
        await database.close()


async def test_store_beyond_our_head_is_ready(
    opened: Opened, url: str, migrations: Path, account: Table
) -> None:
    """Version N-1 starts and runs on the schema that version N left."""
    database = await opened(url)
    newer = text("UPDATE alembic_version SET version_num = '0003'")
    await database.run(lambda conn: conn.execute(newer) and None)
    older = await opened(url)
    await older.check()
    assert older.store_id == database.store_id
    older_revision = text("UPDATE alembic_version SET version_num = '0001'")
    await database.run(lambda conn: conn.execute(older_revision) and None)
    with pytest.raises(TransientFault, match="this version needs 0002"):
        await older.check()
    with pytest.raises(TransientFault, match="this version needs 0002"):
        await open_database(
            url, migrations=migrations, clock=SystemClock(), migrate=False
        )


async def test_warm_start_leaves_alembic_alone(
    opened: Opened, sqlite_url: str, migrations: Path
) -> None:
    """A store at its head costs one look, not the import of a migration tool."""
    await opened(sqlite_url)
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from determinism import SystemClock\n"
        "from persistence.database import open_database\n"
        "asyncio.run(open_database(sys.argv[1], migrations=Path(sys.argv[2]),"
        " clock=SystemClock()))\n"
        "raise SystemExit('alembic' in sys.modules or 'asyncpg' in sys.modules)"
    )
    command = [sys.executable, "-c", program, sqlite_url, str(migrations)]
    starter = await asyncio.create_subprocess_exec(*command)
    assert await starter.wait() == 0


async def test_folder_without_migrations_is_refused(
    sqlite_url: str, tmp_path: Path
) -> None:
    """A wrong folder, a gap in the numbers or a foreign URL stops the start."""
    clock = SystemClock()
    with pytest.raises(PermanentFault, match="is the path right"):
        await open_database(sqlite_url, migrations=tmp_path, clock=clock)
    versions = tmp_path / "versions"
    versions.mkdir()
    (versions / "0002_gap.py").write_text(
        "revision = '0002'\ndown_revision = None\ndef upgrade(): ...\n"
    )
    with pytest.raises(PermanentFault, match="number the files"):
        await open_database(sqlite_url, migrations=tmp_path, clock=clock)
    with pytest.raises(PermanentFault, match="not supported"):
        await open_database("mysql://host/db", migrations=tmp_path, clock=clock)


@pytest.fixture
async def server(postgres_url: str, opened: Opened) -> Database:
    """Return an empty PostgreSQL store whose pool has one connection."""
    return await opened(f"{postgres_url}?pool_size=1&schema=tenant%20schema")


async def test_schema_is_made_and_used(server: Database, postgres_url: str) -> None:
    """``schema=`` in the URL keeps a service's tables to itself."""
    await server.check()
    connection = await asyncpg.connect(postgres_url)
    query = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = 'outbox'"
    assert await connection.fetchval(query) == "tenant schema"
    await connection.close()


async def test_lost_connection_is_a_transient_fault(
    server: Database, postgres_url: str, account: Table
) -> None:
    """A connection that the server ends fails its transaction; the next one works."""
    connection = await asyncpg.connect(postgres_url)
    end_others = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    await server.run(lambda conn: conn.execute(select(account)) and None)
    await connection.execute(end_others)
    with pytest.raises(TransientFault):
        await server.run(lambda conn: conn.execute(select(account)) and None)
    await server.run(lambda conn: conn.execute(select(account)) and None)
    await server.check()
    await connection.close()


async def test_statement_timeout_is_a_transient_fault(server: Database) -> None:
    """A statement that the server gives up on can be tried again."""

    def slow(conn: Connection) -> None:
        conn.execute(text("SET LOCAL statement_timeout = '20ms'"))
        conn.execute(text("SELECT pg_sleep(5)"))

    with pytest.raises(TransientFault, match="statement timeout"):
        await server.run(slow)


async def test_postgres_cancellation_before_and_after_pick_up(
    server: Database, postgres_url: str, account: Table
) -> None:
    """Queued for a connection: gone. Running: committed before the cancellation."""
    gate = await asyncpg.connect(postgres_url)
    await gate.execute("SELECT pg_advisory_lock(7)")

    def waits(conn: Connection) -> None:
        conn.execute(account.insert(), {"id": "a", "balance": 1, "version": 1})
        conn.execute(text("SELECT pg_advisory_xact_lock(7)"))

    def queued(conn: Connection) -> None:
        conn.execute(account.insert(), {"id": "b", "balance": 1, "version": 1})

    running = asyncio.create_task(server.run(waits))
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype='advisory' AND NOT granted"
    async with asyncio.timeout(5):
        while not await gate.fetchval(waiting):
            await asyncio.wait({running}, timeout=0.005)
    second = asyncio.create_task(server.run(queued))
    await asyncio.wait({second}, timeout=0.02)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    running.cancel()
    await asyncio.wait({running}, timeout=0.02)
    assert not running.done()
    await gate.execute("SELECT pg_advisory_unlock(7)")
    with pytest.raises(asyncio.CancelledError):
        await running
    found = await server.read(
        lambda conn: set(conn.execute(select(account.c.id)).scalars())
    )
    assert found == {"a"}
    await gate.close()
