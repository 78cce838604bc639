"""
Who is measured: each is started, asked, and stopped, one after the other.

Peers live in ``.peers/``, made by ``./just bench peers`` with the ordinary clients of
PyPI and npm; where one does not install it is left out and named in the report.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from load import Connection, Refused, Target

from embedded.ports import HOST, Ports
from testkit.platform import Platform

HERE: Final = Path(__file__).parent
PEERS: Final = HERE.parent / ".peers"
LITELLM: Final = PEERS / "litellm" / "bin" / "litellm"
PORTKEY: Final = PEERS / "node_modules/@portkey-ai/gateway/build/start-server.js"
MODEL: Final = "gpt-5.6-luna"
START_S: Final = 60.0
STOP_S: Final = 10.0
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Contender:
    """A running gateway."""

    name: str
    target: Target
    pids: Sequence[int] = field(default_factory=tuple[int, ...])
    """Its processes, for their memory."""

    def rss_mib(self) -> float:
        """Return the resident memory of all its processes."""
        pages = 0
        for pid in self.pids:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * PAGE / 2**20


def installed() -> dict[str, bool]:
    """Tell which peers are installed."""
    has_node = shutil.which("node") is not None
    return {"LiteLLM": LITELLM.exists(), "Portkey": PORTKEY.exists() and has_node}


@asynccontextmanager
async def start(name: str, upstream: str, ports: Ports) -> AsyncGenerator[Contender]:
    """Start a contender in front of the upstream; stop it when the context ends."""
    makers = {
        "bare shape": bare_shape,
        "Digital Employee": platform,
        "LiteLLM": litellm,
        "Portkey": portkey,
    }
    async with makers[name](upstream, ports) as contender:
        await answering(contender.target)
        yield contender


@asynccontextmanager
async def bare_shape(upstream: str, ports: Ports) -> AsyncGenerator[Contender]:
    """Run raw ASGI → NATS → aiohttp."""
    nats_port, port = ports.pick(4300), ports.pick(8701)
    server = str(Path(sys.executable).parent / "nats-server")
    nats = f"nats://{HOST}:{nats_port}"
    script = str(HERE / "bare.py")
    with (
        running([server, "-a", HOST, "-p", str(nats_port)]),
        running(
            [sys.executable, script, "back", "--nats", nats, "--upstream", upstream]
        ) as back,
        running(
            [sys.executable, script, "front", "--nats", nats, "--port", str(port)]
        ) as front,
    ):
        url = f"http://{HOST}:{port}/v1/chat/completions"
        target = Target(url, {}, MODEL)
        yield Contender("bare shape", target, (front, back))


@asynccontextmanager
async def platform(upstream: str, ports: Ports) -> AsyncGenerator[Contender]:
    """Run the whole embedded platform: five services, accounting and tracing on."""
    del ports  # it holds its own
    known = {"OPENAI_BASE_URL": upstream, "OPENAI_API_KEY": "none"}
    with environment(known):
        made = Platform()
        try:
            await made.start()
            key = made.endpoints["api_key"]
            url = f"{made.endpoints['gateway']}/v1/chat/completions"
            headers = {"authorization": f"Bearer {key}"}
            target = Target(url, headers, f"openai/{MODEL}")
            processes = made.processes()
            pids = (processes["gateway"], processes["ai-broker"])
            yield Contender("Digital Employee", target, pids)
        finally:
            await made.down()


@asynccontextmanager
async def litellm(upstream: str, ports: Ports) -> AsyncGenerator[Contender]:
    """Run LiteLLM's proxy: one worker, no database."""
    port = ports.pick(8710)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "litellm.yaml"
        config.write_text(
            f"model_list:\n- model_name: {MODEL}\n  litellm_params:\n"
            f"    model: openai/{MODEL}\n    api_base: {upstream}\n    api_key: none\n"
        )
        permit = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
        command = [str(LITELLM), "--config", str(config), "--port", str(port)]
        with running([*command, "--host", HOST], permit) as pid:
            url = f"http://{HOST}:{port}/v1/chat/completions"
            target = Target(url, {"authorization": "Bearer none"}, MODEL)
            yield Contender("LiteLLM", target, (pid,))


@asynccontextmanager
async def portkey(upstream: str, ports: Ports) -> AsyncGenerator[Contender]:
    """Run Portkey's gateway on Node."""
    port = ports.pick(8720)
    node = shutil.which("node") or "node"
    with running([node, str(PORTKEY), f"--port={port}", "--headless"]) as pid:
        headers = {
            "authorization": "Bearer none",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": upstream,
        }
        url = f"http://{HOST}:{port}/v1/chat/completions"
        yield Contender("Portkey", Target(url, headers, MODEL), (pid,))


async def answering(target: Target) -> None:
    """
    Return once it answers.

    Raises:
        TimeoutError: It did not within a minute.
    """
    request = target.request(stream=False)
    async with asyncio.timeout(START_S):
        while True:
            connection = Connection(target)
            try:
                await connection.ask(request)
            except (OSError, EOFError, Refused):
                await asyncio.sleep(0.25)
            else:
                return
            finally:
                connection.close()


@contextmanager
def running(command: Sequence[str], known: Mapping[str, str] | None = None):  # noqa: ANN201
    """Run a process of ours meanwhile; yield its pid."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(known or {})},
            stdout=output,
            stderr=output,
        )
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def environment(known: Mapping[str, str]):  # noqa: ANN201 -- a context manager
    """Set environment variables meanwhile."""
    before = {name: os.environ.get(name) for name in known}
    os.environ.update(known)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
