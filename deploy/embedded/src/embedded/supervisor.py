"""
Runs the whole platform until it is told to stop.

    plan ports ─► NATS ─► bootstrap, sandbox, services ─► all ready
         ─► development tenant, examples ─► endpoints.json ─► on_ready

A process that dies is started again with backoff. On SIGTERM or SIGINT the
services drain first, then the bootstrap and the sandbox, and NATS last.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from determinism import Clock, IdSource
from embedded.console import Console
from embedded.nats import write_configuration
from embedded.ports import Ports
from embedded.process import Command, Supervised
from embedded.secrets import load_secrets
from embedded.stack import Plan, commands, make_plan
from embedded.state import State, write_json
from embedded.tenancy import apply_examples, ensure_tenant

READY_LIMIT_S: Final = 60.0
# Each round asks everything that is not ready: twice as often cost a tenth of a core.
POLL_S: Final = 0.1
OK: Final = 200

Endpoints = dict[str, Any]


class NotReady(RuntimeError):
    """Something did not come up in time."""


class Supervisor:
    """The embedded platform, from start to stop."""

    def __init__(
        self, state: State, console: Console, clock: Clock, ids: IdSource
    ) -> None:
        self._state = state
        self._console = console
        self._clock = clock
        self._ids = ids
        self._processes: list[Supervised] = []
        self._stop = asyncio.Event()

    async def run(
        self, replicas: int, on_ready: Callable[[Endpoints], Awaitable[None]]
    ) -> None:
        """
        Start everything, say when it is ready, and run until told to stop.

        Raises:
            ExceptionGroup: Of ``NotReady`` or ``SetUpFailed``, perhaps nested.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        with Ports() as held:
            await self._run(make_plan(replicas, held), on_ready)

    async def _run(
        self,
        plan: Plan,
        on_ready: Callable[[Endpoints], Awaitable[None]],
    ) -> None:
        secrets = load_secrets(self._state, self._ids)
        write_configuration(plan, secrets, self._state)
        self._processes = [
            Supervised(each, self._console.say, self._note, self._clock, self._ids)
            for each in commands(plan, secrets, self._state)
        ]
        async with asyncio.TaskGroup() as group:
            for process in self._processes:
                group.create_task(process.run())
            try:
                await self._serve(plan, secrets, on_ready)
            finally:
                await self._stop_all()

    async def _serve(
        self,
        plan: Plan,
        secrets: Mapping[str, str],
        on_ready: Callable[[Endpoints], Awaitable[None]],
    ) -> None:
        async def start() -> None:
            await self._await_ready(plan)
            await _greet(on_ready, await self._set_up(plan, secrets))

        async with asyncio.TaskGroup() as group:
            starting = group.create_task(start())
            await self._stop.wait()
            starting.cancel()

    async def _set_up(self, plan: Plan, secrets: Mapping[str, str]) -> Endpoints:
        gateway = plan.gateway_url
        try:
            tenant = await ensure_tenant(gateway, secrets["admin_key"], self._state)
            await apply_examples(gateway, tenant["api_key"])
        except httpx.TransportError as cause:
            message = f"{gateway} was ready and does not answer: {cause!r}"
            raise NotReady(message) from cause
        endpoints = describe(plan, secrets, tenant, self._state)
        write_json(self._state.endpoints, endpoints)
        return endpoints

    async def _await_ready(self, plan: Plan) -> None:
        urls = {
            replica.name: f"http://127.0.0.1:{replica.face_port}/ready"
            for replica in plan.replicas
        }
        urls["sandbox"] = f"{plan.sandbox_url}/health"
        # Not /openapi.json, which is built when first asked for: a third of a second.
        urls["gateway API"] = f"{plan.gateway_url}/docs"
        limit = self._clock.monotonic() + READY_LIMIT_S
        async with httpx.AsyncClient(timeout=2.0) as client:
            while urls:
                for name, url in list(urls.items()):
                    if await _answers(client, url):
                        del urls[name]
                if self._clock.monotonic() > limit:
                    waiting = ", ".join(urls)
                    message = f"not ready after {READY_LIMIT_S:g} s: {waiting}"
                    raise NotReady(message)
                await self._clock.sleep(POLL_S)

    async def _stop_all(self) -> None:
        self._state.endpoints.unlink(missing_ok=True)
        # Started last, stopped first: services drain while NATS still runs.
        nats, *helpers = self._processes[:3]
        await _stop(self._processes[3:])
        await _stop(helpers)
        await _stop([nats])
        self._state.processes.unlink(missing_ok=True)

    def _note(self) -> None:
        running = {
            process.command.name: {"pid": process.pid, "restarts": process.restarts}
            for process in self._processes
        }
        write_json(self._state.processes, running)


def describe(
    plan: Plan, secrets: Mapping[str, str], tenant: Mapping[str, Any], state: State
) -> Endpoints:
    """Return what ``endpoints.json`` tells."""
    nats = tenant["nats"]
    return {
        "gateway": plan.gateway_url,
        "gateways": [
            f"http://127.0.0.1:{each.api_port}"
            for each in plan.replicas
            if each.api_port is not None
        ],
        "tenant": tenant["tenant"],
        "api_key": tenant["api_key"],
        "admin_key": secrets["admin_key"],
        "nats": plan.nats_url,
        "nats_user": nats["user"],
        "nats_password": nats["password"],
        "nats_inbox_prefix": nats["inbox_prefix"],
        "nats_monitor": f"http://127.0.0.1:{plan.monitor_port}",
        "sandbox": plan.sandbox_url,
        "metrics": {
            each.name: f"http://127.0.0.1:{each.face_port}/metrics"
            for each in plan.replicas
        },
        "logs": str(state.logs),
        "traces": str(state.traces),
    }


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == OK
    except httpx.TransportError:
        return False


async def _stop(processes: Sequence[Supervised]) -> None:
    await asyncio.gather(*(process.stop() for process in processes))


async def _greet(
    on_ready: Callable[[Endpoints], Awaitable[None]], endpoints: Endpoints
) -> None:
    # A demo that fails, however it does, must not take the platform down.
    try:
        await on_ready(endpoints)
    except Exception as cause:  # noqa: BLE001
        print(f"the demo task failed: {cause}", flush=True)  # noqa: T201


def run_supervisor(
    supervisor: Supervisor,
    replicas: int,
    on_ready: Callable[[Endpoints], Awaitable[None]],
    state: State,
) -> None:
    """Run in this process, leaving a note of it for ``down``."""
    state.make()
    write_json(state.supervisor, {"pid": os.getpid(), "started": start_of(os.getpid())})
    try:
        asyncio.run(supervisor.run(replicas, on_ready))
    finally:
        state.supervisor.unlink(missing_ok=True)


def start_of(pid: int) -> str | None:
    """Return when a process was started, in the kernel's words; None when gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


__all__ = ["Command", "NotReady", "Supervisor", "run_supervisor", "start_of"]
