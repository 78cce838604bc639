"""
The real platform for tests: every service a process, NATS, SQL, the vendor.

Only one platform runs at a time, in one xdist worker. Modules that leave it as it
was share it; a module that needs another kind, or its own, gets a new one.
"""

import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from testkit.platform import Platform
from testkit.platform_customer import Customer

# Test folders are no packages: this makes ``sdk_clients`` importable beside them.
sys.path.insert(0, str(Path(__file__).parent))

from rate_limits import RateLimits
from sdk_clients import Clients, clients_of

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these tests in one loop, in one worker, with time for slow machines."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            item.add_marker(pytest.mark.xdist_group("platform"))
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(180))
            # nats-py and killed servers leave sockets to the garbage collector.
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed"))


class Landlord:
    """
    Keeps at most one platform running.

    Args:
        environment: What every platform's services are told.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._running: Platform | None = None

    async def lend(self, replicas: int) -> Platform:
        """Return a running platform of this kind, the former one if it fits."""
        running = self._running
        if running is not None and running.replicas == replicas:
            return running
        await self.clear()
        # Noted first, so that one that does not become ready is stopped as well.
        self._running = Platform(replicas, environment=self._environment)
        await self._running.start()
        return self._running

    async def clear(self) -> None:
        """Stop the platform; nothing of it may be left."""
        running, self._running = self._running, None
        if running is not None:
            assert await running.down() == []


@pytest.fixture(scope="session")
def rates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RateLimits]:
    """Lend the rate limits of every platform: none until a test writes some."""
    rates = RateLimits(tmp_path_factory.mktemp("rates") / "rates.yaml")
    try:
        yield rates
    finally:
        rates.server.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def landlord(rates: RateLimits) -> AsyncIterator[Landlord]:
    """Lend whoever starts and stops platforms."""
    landlord = Landlord(rates.environment)
    try:
        yield landlord
    finally:
        await landlord.clear()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def platform(landlord: Landlord) -> Platform:
    """Lend a platform with one replica of each service."""
    return await landlord.lend(1)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def replicated(landlord: Landlord) -> Platform:
    """Lend a platform with two replicas of each service."""
    return await landlord.lend(2)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def clients(platform: Platform) -> AsyncIterator[Clients]:
    """Lend the vendors' SDKs as clients of the development tenant."""
    async with clients_of(platform) as clients:
        yield clients


@pytest.fixture(scope="module")
def customer(platform: Platform) -> Customer:
    """Lend the development tenant."""
    return platform.customer


@pytest_asyncio.fixture(loop_scope="session")
async def slow_vendor(platform: Platform) -> AsyncIterator[Platform]:
    """Lend a platform whose vendor is at its usual speed again afterwards."""
    yield platform
    await platform.vendor.set_latency(0.0)
    await platform.vendor.set_faults([])
