"""A ledger on an in-memory store; and its real stores."""

import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from billing_meter.adapters.tables import MeterTable
from billing_meter.ports import Deps
from billing_meter.settings import HERE
from determinism import SystemClock
from persistence.database import Database, open_database
from persistence.inline import InlineDatabase

# Test folders are no packages: this makes ``billing_world`` importable beside them.
sys.path.insert(0, str(Path(__file__).parent))

from billing_world import deps_on


@pytest.fixture
def store() -> InlineDatabase:
    """Return the in-memory store."""
    return InlineDatabase.create(MeterTable.metadata)


@pytest.fixture
def deps(store: InlineDatabase) -> Deps:
    """Return the handlers' dependencies on a fresh store."""
    return deps_on(store)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty store, SQLite and PostgreSQL in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/billing.db"
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
async def databases(url: str) -> AsyncGenerator[tuple[Database, Database]]:
    """Return two processes' views of one migrated store."""
    clock, migrations = SystemClock(), HERE / "migrations"
    first = await open_database(url, migrations=migrations, clock=clock)
    second = await open_database(url, migrations=migrations, clock=clock)
    yield first, second
    await first.close()
    await second.close()
