"""The stores that one suite runs over: a SQLite file, PostgreSQL, and inline."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

from determinism import SystemClock
from persistence.database import Database, InlineDatabase, open_database
from persistence.tables import SharedTables, declare_shared
from persistence.types import Instant, Json

METADATA: Final = MetaData()
SHARED: Final = declare_shared(METADATA)
ACCOUNT: Final = Table(
    "account",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("balance", BigInteger, nullable=False),
    Column("opened_at", Instant, nullable=True),
    Column("note", Json, nullable=True),
    Column("version", Integer, nullable=False),
)


@pytest.fixture
def metadata() -> MetaData:
    """Return what the migrations must build."""
    return METADATA


@pytest.fixture
def tables() -> SharedTables:
    """Return the shared tables of the tests' service."""
    return SHARED


@pytest.fixture
def account() -> Table:
    """Return the tests' own table."""
    return ACCOUNT


@pytest.fixture
def now() -> datetime:
    """Return a fixed time."""
    return datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)


@pytest.fixture
def migrations() -> Path:
    """Return the folder of the tests' service."""
    return Path(__file__).parent / "migrations"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty store, SQLite and PostgreSQL in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/a store/service.sqlite3"
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Return the URL of an empty SQLite store."""
    return f"sqlite:///{tmp_path}/service.sqlite3"


@pytest.fixture
async def opened(
    migrations: Path,
) -> AsyncIterator[Callable[[str], Awaitable[Database]]]:
    """Return a function that opens a URL; the test's end closes what it opened."""
    databases: list[Database] = []

    async def open_url(url: str) -> Database:
        database = await open_database(url, migrations=migrations, clock=SystemClock())
        databases.append(database)
        return database

    yield open_url
    for database in databases:
        await database.close()


@pytest.fixture(params=["sqlite", "postgresql", "inline"])
async def database(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    opened: Callable[[str], Awaitable[Database]],
) -> Database:
    """Return an empty store of each kind in turn."""
    if request.param == "inline":
        return InlineDatabase.create(METADATA)
    if request.param == "sqlite":
        return await opened(f"sqlite:///{tmp_path}/service.sqlite3")
    return await opened(request.getfixturevalue("postgres_url"))
