"""
The embedded platform in a throwaway folder, for tests that kill and audit it.

It runs as ``./just up --detach`` runs it: a supervisor process with everything
below it. The tests see what a customer sees (HTTP, NATS), what an operator sees
(logs, traces, pids), and the sandbox vendor's own ledger.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from embedded.state import State, read_json
from embedded.supervisor import start_of
from testkit.platform_customer import Customer, NatsLogin
from testkit.platform_vendor import Vendor
from testkit.server_process import ending_with_parent
from testkit.until import NotInTimeError, until

READY_LIMIT_S: Final = 60.0
RESTART_LIMIT_S: Final = 30.0
DOWN_LIMIT_S: Final = 60.0
HTTP_LIMIT_S: Final = 20.0
OK: Final = 200
CREATED: Final = 201
ALARMS: Final = frozenset({"error", "critical"})
ALARMS_MAX: Final = 20
TRACEBACK: Final = "Traceback (most recent call last):"

Process = tuple[int, str]
"""Pid and start time, which together are never used twice."""
LogMark = Mapping[Path, int]
"""How long each log was."""


class Platform:
    """
    One embedded platform, from its start to its last process gone.

    Args:
        replicas: Processes of each service.
        folder: Its state; a throwaway one by default, deleted by ``down``.
        environment: What its services are told beside what they always are.
    """

    customer: Customer
    """The development tenant."""
    admin: httpx.AsyncClient
    """The gateway, with the admin key."""
    vendor: Vendor
    endpoints: dict[str, Any]

    def __init__(
        self,
        replicas: int = 1,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.replicas = replicas
        self._environment = environment or {}
        self._is_throwaway = folder is None
        self.state = State(folder or Path(tempfile.mkdtemp(prefix="de-platform-")))
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._seen: dict[str, Process] = {}
        self._customers: list[Customer] = []

    async def start(self) -> None:
        """
        Start it; returns once everything is ready.

        Raises:
            NotInTimeError: It does not become ready; the text ends with its log.
        """
        self.state.make()
        self._supervisor = self._spawn()
        self.endpoints = await until(self._endpoints, READY_LIMIT_S, self.evidence)
        self.vendor = Vendor(self.endpoints["sandbox"])
        self.admin = httpx.AsyncClient(
            base_url=self.endpoints["gateway"],
            headers={"authorization": f"Bearer {self.endpoints['admin_key']}"},
            timeout=HTTP_LIMIT_S,
        )
        login = NatsLogin(
            self.endpoints["nats"],
            self.endpoints["nats_user"],
            self.endpoints["nats_password"],
            self.endpoints["nats_inbox_prefix"],
        )
        self.customer = self._customer(
            self.endpoints["tenant"], self.endpoints["api_key"], login
        )
        self.processes()

    async def add_tenant(self, tenant: str) -> Customer:
        """Make another tenant."""
        answer = await self.admin.post("/v1/tenants", json={"tenant": tenant})
        if answer.status_code != CREATED:
            raise AssertionError(f"make tenant {tenant}: {answer.text}")
        created = answer.json()
        known = created["nats"]
        login = NatsLogin(
            known["url"], known["user"], known["password"], known["inbox_prefix"]
        )
        return self._customer(tenant, created["api_key"], login)

    def service_login(self, user: str) -> NatsLogin:
        """Return the NATS login of a service, as its own process has it."""
        secrets = read_json(self.state.secrets) or {}
        url: str = self.endpoints["nats"]
        return NatsLogin(url, user, secrets[user], f"_INBOX.{user}")

    def processes(self) -> dict[str, int]:
        """Return the pid of every process that runs now, by its name."""
        known = read_json(self.state.processes) or {}
        found: dict[str, int] = {}
        for name, noted in known.items():
            started = None if noted["pid"] is None else start_of(noted["pid"])
            if started is not None:
                found[name] = noted["pid"]
                self._seen[f"{name}/{noted['pid']}"] = (noted["pid"], started)
        return found

    def restarts(self) -> dict[str, int]:
        """Return how often each process was started again."""
        known = read_json(self.state.processes) or {}
        return {name: noted["restarts"] for name, noted in known.items()}

    async def kill(self, name: str) -> None:
        """End a process as a crash would; returns once another one runs."""
        pid = self.processes()[name]
        os.kill(pid, signal.SIGKILL)
        await self._await_restart(name, pid)

    async def wipe_nats(self) -> None:
        """End nats-server and delete all that it stored, before it starts again."""
        pid = self.processes()["nats"]
        store = self.state.nats / "jetstream"
        # Frozen first, so that nothing is written between the two.
        os.kill(pid, signal.SIGSTOP)
        gone = store.rename(self.state.folder / f"jetstream-{pid}")
        os.kill(pid, signal.SIGKILL)
        shutil.rmtree(gone)
        await self._await_restart("nats", pid)

    async def await_ready(self, limit_s: float = RESTART_LIMIT_S) -> None:
        """Return once every service answers that it is ready."""
        waiting = {
            name: url.removesuffix("/metrics") + "/ready"
            for name, url in self.endpoints["metrics"].items()
        }
        async with httpx.AsyncClient(timeout=HTTP_LIMIT_S) as client:

            async def look() -> bool:
                for name, url in list(waiting.items()):
                    if await _is_ok(client, url):
                        del waiting[name]
                return not waiting

            await until(look, limit_s, lambda: f"{', '.join(waiting)} to be ready")

    def rss_bytes(self) -> dict[str, int]:
        """Return the resident memory of every process that runs now."""
        page = os.sysconf("SC_PAGE_SIZE")
        found: dict[str, int] = {}
        for name, pid in self.processes().items():
            try:
                fields = Path(f"/proc/{pid}/statm").read_text().split()
            except OSError:  # it has just ended
                continue
            found[name] = int(fields[1]) * page
        return found

    def log_mark(self) -> LogMark:
        """Return where the logs end now."""
        return {path: path.stat().st_size for path in self.state.logs.glob("*.log")}

    def alarms(self, since: LogMark | None = None) -> list[str]:
        """Return the lines of level error or worse, and tracebacks, since a mark."""
        mark = since or {}
        return [
            f"{path.stem}: {line[:600]}"
            for path in sorted(self.state.logs.glob("*.log"))
            for line in _alarms_in(_lines_after(path, mark.get(path, 0)))
        ]

    def evidence(self) -> str:
        """Return what its logs say about why it is not as it should be."""
        log = self.state.logs / "supervisor.log"
        tail = log.read_text()[-2000:] if log.exists() else ""
        alarms = "\n".join(self.alarms()[-ALARMS_MAX:])
        return f"the platform in {self.state.folder}\n{tail}\n{alarms}"

    async def down(self) -> list[str]:
        """
        Stop it as ``./just down`` does, and delete its folder.

        Returns:
            The names of processes that were left running; they were killed.
        """
        if self._supervisor is None:
            return []
        await self._close()
        self.processes()
        self._supervisor.send_signal(signal.SIGTERM)
        try:
            await until(self._has_ended, DOWN_LIMIT_S, "the supervisor to end")
        except NotInTimeError:
            self._supervisor.kill()
            self._supervisor.wait()
        left = self.leftovers()
        for name, (pid, started) in self._seen.items():
            if name in left and start_of(pid) == started:
                os.kill(pid, signal.SIGKILL)
        self._supervisor = None
        if self._is_throwaway:
            shutil.rmtree(self.state.folder, ignore_errors=True)
        return left

    def leftovers(self) -> list[str]:
        """Return which processes of all that were ever seen still run."""
        return [
            name
            for name, (pid, started) in self._seen.items()
            if start_of(pid) == started
        ]

    def _spawn(self) -> subprocess.Popen[bytes]:
        log = self.state.logs / "supervisor.log"
        arguments = [sys.executable, "-m", "embedded", "supervise"]
        with log.open("ab") as output:
            return subprocess.Popen(
                [*arguments, "--replicas", str(self.replicas)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={
                    **os.environ,
                    **self._environment,
                    "DE_STATE_DIR": str(self.state.folder),
                },
                preexec_fn=ending_with_parent(signal.SIGTERM),  # noqa: PLW1509 -- a killed test run
            )

    def _customer(self, tenant: str, api_key: str, login: NatsLogin) -> Customer:
        made = Customer(tenant, api_key, login, self.endpoints["gateways"])
        self._customers.append(made)
        return made

    async def _endpoints(self) -> dict[str, Any] | None:
        if self._supervisor is not None and self._supervisor.poll() is not None:
            raise NotInTimeError(f"ended while starting: {self.evidence()}")
        return read_json(self.state.endpoints)

    async def _await_restart(self, name: str, pid: int) -> None:
        async def look() -> bool:
            return self.processes().get(name, pid) != pid

        await until(look, RESTART_LIMIT_S, f"{name} to be started again")

    async def _has_ended(self) -> bool:
        return self._supervisor is None or self._supervisor.poll() is not None

    async def _close(self) -> None:
        for customer in self._customers:
            await customer.close()
        self._customers.clear()
        if hasattr(self, "admin"):
            await self.admin.aclose()
            await self.vendor.close()


async def _is_ok(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == OK
    except httpx.TransportError:
        return False


def _lines_after(path: Path, offset: int) -> list[str]:
    with path.open("rb") as file:
        # A log that was rotated is shorter than it was; then all of it is new.
        file.seek(offset if path.stat().st_size >= offset else 0)
        return file.read().decode(errors="replace").splitlines()


def _alarms_in(lines: list[str]) -> list[str]:
    """Return alarming lines; of a traceback the last line, which says what it was."""
    found: list[str] = []
    is_in_traceback = False
    for line in lines:
        if is_in_traceback and line and not line[0].isspace():
            found.append(f"{TRACEBACK} {line}")
            is_in_traceback = False
        if line.startswith(TRACEBACK):
            is_in_traceback = True
        elif _is_alarm(line):
            found.append(line)
    return found


def _is_alarm(line: str) -> bool:
    if not line.startswith("{"):
        return False
    try:
        fields = json.loads(line)
    except ValueError:
        return False
    return fields.get("level") in ALARMS
