"""The gateway on an in-memory store, with scripted peers; and its real stores."""

import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest

from determinism import SeededIds, SystemClock
from gateway.adapters.tables import GatewayTable
from gateway.app import Composed, compose
from gateway.handlers.tenants import seed_admin
from gateway.settings import Settings
from persistence.database import Database, open_database
from persistence.inline import InlineDatabase

# Test folders are no packages: this makes ``gateway_world`` importable beside them.
sys.path.insert(0, str(Path(__file__).parent))

from gateway_world import ADMIN, Headers, ScriptedBus, tenant_headers

MIGRATIONS = Path(__file__).parents[1] / "migrations"


@pytest.fixture
def bus() -> ScriptedBus:
    """Return the scripted peers."""
    return ScriptedBus()


@pytest.fixture
def store() -> InlineDatabase:
    """Return the in-memory store."""
    return InlineDatabase.create(GatewayTable.metadata)


@pytest.fixture
async def gateway(
    bus: ScriptedBus, store: InlineDatabase, tmp_path: Path
) -> AsyncGenerator[Composed]:
    """Return a composed gateway with an admin key."""
    composed = compose(
        settings=Settings(
            database_url=f"sqlite:///{tmp_path}/unused.db",
            feeds_max=2,
            completions_max=2,
        ),
        database=store,
        bus=bus,
        clock=SystemClock(),
        ids=SeededIds(1),
    )
    await seed_admin(ADMIN, composed.deps)
    yield composed
    await store.close()


@pytest.fixture
async def client(gateway: Composed) -> AsyncGenerator[httpx.AsyncClient]:
    """Return a client without a key."""
    transport = httpx.ASGITransport(gateway.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gw") as opened:
        yield opened


@pytest.fixture
async def acme(client: httpx.AsyncClient) -> Headers:
    """Return the headers of a tenant's key."""
    return await tenant_headers(client, "acme")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty store, SQLite and PostgreSQL in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/gateway.db"
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
async def databases(url: str) -> AsyncGenerator[tuple[Database, Database]]:
    """Return two processes' views of one migrated store."""
    clock = SystemClock()
    first = await open_database(url, migrations=MIGRATIONS, clock=clock)
    second = await open_database(url, migrations=MIGRATIONS, clock=clock)
    yield first, second
    await first.close()
    await second.close()
