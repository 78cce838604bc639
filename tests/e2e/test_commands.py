import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio

from determinism import within
from embedded.ports import HOST
from embedded.stack import API_PORT, FACE_PORT, NATS_PORT, SANDBOX_PORT, SERVICES
from embedded.state import ROOT, State, read_json
from embedded.supervisor import start_of
from testkit.until import until

USUAL_PORTS = (API_PORT, FACE_PORT, NATS_PORT, SANDBOX_PORT)
COMMAND_LIMIT_S = 90.0


class Clears(Protocol):
    """Whoever can stop the platform of other tests."""

    async def clear(self) -> None:
        """Stop it."""
        ...


@pytest.fixture
def taken_ports() -> Iterator[tuple[int, ...]]:
    """Listen on the usual ports, where nobody else does already."""
    with ExitStack() as stack:
        for port in USUAL_PORTS:
            server = stack.enter_context(socket.socket())
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind((HOST, port))
                server.listen()
            except OSError:  # taken by another program, which serves as well
                continue
        yield USUAL_PORTS


@pytest_asyncio.fixture(loop_scope="session")
async def state(landlord: Clears, tmp_path: Path) -> AsyncIterator[State]:
    """Lend an empty state folder, and stop whatever was started in it."""
    await landlord.clear()
    state = State(tmp_path / "with a space")
    yield state
    noted = read_json(state.supervisor)
    if noted is not None and start_of(noted["pid"]) == noted["started"]:
        os.kill(noted["pid"], signal.SIGTERM)
        await until(lambda: is_gone(noted["pid"], noted["started"]), 30, "its end")


async def test_up_and_down(state: State, taken_ports: tuple[int, ...]) -> None:
    """
    ``up --detach`` steps over taken ports, runs the demo, and returns when ready.

    ``down`` stops every process that it started. A second ``up`` says that one is
    running, a second ``down`` that none is; starting again keeps what was done.
    The client finds what runs, runs a task, and draws its way through every service.
    """
    code, said = await run(state, "up", "--detach")
    assert code == 0, said
    assert "ready: http" in said
    assert '"recommendation": "query"' in said
    endpoints = read_json(state.endpoints)
    assert endpoints is not None
    urls: list[str] = [endpoints["gateway"], endpoints["nats"], endpoints["sandbox"]]
    urls += endpoints["metrics"].values()
    assert {urlsplit(url).port for url in urls}.isdisjoint(taken_ports)
    started = processes(state)
    assert len(started) == 9
    code, said = await run(state, "up", "--detach")
    assert code == 1
    assert "already up" in said
    code, _ = await run(state, "down")
    assert code == 0
    left = [name for name, (pid, at) in started.items() if start_of(pid) == at]
    assert left == []
    code, said = await run(state, "down")
    assert code == 0
    assert "not running" in said

    code, said = await run(state, "up", "--detach", "--no-demo")
    assert code == 0, said
    endpoints = read_json(state.endpoints)
    assert endpoints is not None
    headers = {"authorization": f"Bearer {endpoints['api_key']}"}
    async with httpx.AsyncClient(base_url=endpoints["gateway"]) as client:
        answer = await client.get("/v1/tasks", headers=headers)
    assert [each["status"] for each in answer.json()["tasks"]] == ["completed"]
    await expect_client_works(state)
    code, _ = await run(state, "down")
    assert code == 0


async def test_a_killed_supervisor_leaves_nothing(state: State) -> None:
    """Its processes end with it, and the next ``up`` works as if it had stopped."""
    code, said = await run(state, "up", "--detach", "--no-demo")
    assert code == 0, said
    noted = read_json(state.supervisor)
    assert noted is not None
    started = processes(state)
    os.kill(noted["pid"], signal.SIGKILL)

    async def are_gone() -> bool:
        return all(start_of(pid) != at for pid, at in started.values())

    await until(are_gone, 40, "every process to end")
    code, said = await run(state, "up", "--detach", "--no-demo")
    assert code == 0, said
    code, _ = await run(state, "down")
    assert code == 0


async def expect_client_works(state: State) -> None:
    """Check that ``dectl`` finds the platform, runs a task and draws its trace."""
    letter = ROOT / "examples" / "documents" / "letter-4711.txt"
    goal = f"Check {letter.name}: do its sums add up?"
    arguments = ("task", "run", "invoice-clerk", goal, "--file", str(letter), "--json")
    code, said = await dectl(state, *arguments)
    assert code == 0, said
    task: dict[str, Any] = json.loads(said)
    assert task["status"] == "completed"

    async def draw() -> str | None:
        _, drawn = await dectl(state, "trace", task["task_id"])
        return drawn if all(service in drawn for service in SERVICES) else None

    await until(draw, 20, "the trace of all services")


async def run(state: State, *arguments: str) -> tuple[int, str]:
    """Run a command of ``./just``; return its exit code and what it said."""
    return await execute(state, sys.executable, "-m", "embedded", *arguments)


async def dectl(state: State, *arguments: str) -> tuple[int, str]:
    """Run the client; return its exit code and what it said."""
    program = Path(sys.executable).parent / "dectl"
    return await execute(state, str(program), *arguments)


async def execute(state: State, *command: str) -> tuple[int, str]:
    """Run a program that knows this state folder, to its end."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "DE_STATE_DIR": str(state.folder)},  # tidy: a child's own
    )
    said, _ = await within(COMMAND_LIMIT_S, process.communicate(), " ".join(command))
    return process.returncode or 0, said.decode()


def processes(state: State) -> dict[str, tuple[int, str]]:
    """Return pid and start time of what runs, the supervisor included."""
    running = read_json(state.processes) or {}
    known = {name: each["pid"] for name, each in running.items()}
    noted = read_json(state.supervisor)
    assert noted is not None
    known["supervisor"] = noted["pid"]
    return {name: (pid, start_of(pid) or "") for name, pid in known.items()}


async def is_gone(pid: int, started: str) -> bool:
    """Tell whether a process has ended."""
    return start_of(pid) != started
