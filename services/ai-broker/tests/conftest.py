"""One sandbox vendor process for all tests, and stores of both dialects."""

import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import aiohttp
import pytest

from ai_broker.domain.catalogue import Protocol
from determinism import SystemClock
from persistence.database import Database, open_database
from testkit.servers import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]

# Test folders are no packages: this makes ``broker_world`` importable beside them.
sys.path.insert(0, str(Path(__file__).parent))

from recorded import TRANSPORTS, Recorder, recording
from sides import Side, opened

MIGRATIONS = Path(__file__).parents[1] / "migrations"
START_S = 20.0


@pytest.fixture(scope="session")
def sandbox_process(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Run the sandbox vendor and give its address."""
    port_file = tmp_path_factory.mktemp("sandbox") / "port"
    command = [sys.executable, "-m", "sandbox", "--port-file", str(port_file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        yield f"http://127.0.0.1:{_port(port_file, process)}"
    finally:
        process.terminate()
        process.communicate(timeout=START_S)


def _port(port_file: Path, process: "subprocess.Popen[bytes]") -> int:
    clock = SystemClock()
    give_up_s = clock.monotonic() + START_S
    while clock.monotonic() < give_up_s and process.poll() is None:
        if port_file.exists() and (text := port_file.read_text().strip()):
            return int(text)
    raise TimeoutError("the sandbox vendor did not write its port")


@pytest.fixture
async def sandbox(sandbox_process: str) -> AsyncGenerator[aiohttp.ClientSession]:
    """Give the sandbox's own endpoints, without faults and with an empty ledger."""
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(sandbox_process, timeout=timeout) as session:
        (await session.put("/sandbox/faults", json=[])).close()
        (await session.delete("/sandbox/ledger")).close()
        yield session


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncGenerator[Database]:
    """Open an empty, migrated store of each dialect."""
    url = f"sqlite:///{tmp_path / 'broker.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    opened = await open_database(url, migrations=MIGRATIONS, clock=SystemClock())
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def recorder() -> AsyncGenerator[Recorder]:
    """Serve recorded replies."""
    async with recording() as served:
        yield served


@pytest.fixture(params=list(TRANSPORTS))
def transport(request: pytest.FixtureRequest) -> str:
    """Name each transport."""
    return str(request.param)


@pytest.fixture(params=list(Protocol))
async def side(
    request: pytest.FixtureRequest, sandbox_process: str, transport: str
) -> AsyncGenerator[Side]:
    """Give a vendor of each protocol by each transport."""
    async with opened(Protocol(request.param), sandbox_process, transport) as made:
        yield made
