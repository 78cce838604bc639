"""
What a vendor call costs by each transport: CPU per call and calls per second.

    .venv/bin/python benchmarks/transports.py [--rounds 3]

Both transports take turns against one sandbox vendor on this machine: a short answer
and one of some 60 events, one client alone and 32 together. CPU is this process's
own, so it holds on a machine that is busy; calls per second do not.
"""

import argparse
import asyncio
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop

from ai_broker.adapters.vendors.client import VendorClient
from ai_broker.adapters.vendors.direct import DirectTransport
from ai_broker.adapters.vendors.sdk import SdkTransport
from ai_broker.adapters.vendors.transport import Patience
from ai_broker.domain.catalogue import Candidate, Endpoint, Protocol, VendorEntry
from contracts.completions import CompletionRequest

TRANSPORTS: Final = {"sdk": SdkTransport, "direct": DirectTransport}
TEXTS: Final = {"short": 'say "hi"', "long": "count to 200"}
CALLS: Final[Mapping[str, int]] = {"short": 400, "long": 150}
CLIENTS: Final = (1, 32)
WARM_UP: Final = 20
TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class Case:
    """What is measured."""

    protocol: Protocol
    transport: str
    text: str
    clients: int


def vendor_of(case: Case, url: str) -> tuple[VendorClient, Candidate]:
    """Return the sandbox by this protocol and transport."""
    openai = case.protocol is Protocol.OPENAI
    entry = VendorEntry(name="sandbox", protocol=case.protocol)
    endpoint = Endpoint(entry, url + ("/v1" if openai else ""), "any")
    client = VendorClient(endpoint, TRANSPORTS[case.transport](endpoint, Patience()))
    model = "sandbox-small" if openai else "sandbox-claude"
    return client, Candidate("sandbox", model)


async def measure(case: Case, url: str) -> tuple[float, float]:
    """Return milliseconds of CPU per call, and calls per second."""
    client, candidate = vendor_of(case, url)
    asked: dict[str, object] = {
        "completion_id": "c",
        "tenant": "acme",
        "model": "any",
        "turns": [
            {"role": "user", "parts": [{"kind": "text", "text": TEXTS[case.text]}]}
        ],
        "deadline": datetime.now(UTC),
    }
    request = CompletionRequest.model_validate(asked)

    async def call(number: int) -> None:
        body = client.prepare(request, candidate).body
        async for _ in client.complete(body, f"attempt_{number}", TIMEOUT_S):
            pass

    for number in range(WARM_UP):
        await call(number)
    numbers = iter(range(CALLS[case.text]))

    async def worker() -> None:
        for number in numbers:
            await call(number)

    before, began = _cpu_s(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(case.clients):
            group.create_task(worker())
    cpu_s, took_s = _cpu_s() - before, time.perf_counter() - began
    await client.close()
    return cpu_s / CALLS[case.text] * 1e3, CALLS[case.text] / took_s


async def run(url: str, rounds: int) -> None:
    """Measure every case in turns, and print the medians."""
    print("| protocol | answer | clients | transport | CPU ms/call | calls/s |")
    print("|---|---|---|---|---|---|")
    for text in TEXTS:
        for protocol in Protocol:
            for clients in CLIENTS:
                found: dict[str, list[tuple[float, float]]] = {}
                for _ in range(rounds):
                    for name in TRANSPORTS:
                        case = Case(protocol, name, text, clients)
                        found.setdefault(name, []).append(await measure(case, url))
                for name, measured in found.items():
                    cpu_ms = statistics.median(each[0] for each in measured)
                    rate = statistics.median(each[1] for each in measured)
                    print(
                        f"| {protocol} | {text} | {clients} | {name} "
                        f"| {cpu_ms:.2f} | {rate:.0f} |",
                        flush=True,
                    )


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Start a sandbox vendor, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds: int = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        command = [sys.executable, "-m", "sandbox", "--port-file", str(port_file)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as sandbox:
            try:
                uvloop.run(run(f"http://127.0.0.1:{_port(port_file)}", rounds))
            finally:
                sandbox.terminate()


def _port(port_file: Path) -> str:
    give_up_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < give_up_s:
        if port_file.exists() and (port := port_file.read_text().strip()):
            return port
        time.sleep(0.05)
    raise TimeoutError("the sandbox vendor did not write its port")


if __name__ == "__main__":
    main()
