"""
What standing between a client and a vendor costs, side by side in one run.

    ./just bench peers                 # install LiteLLM and Portkey into .peers
    ./just bench broker [--rounds 3] [--seconds 5] [--clients 32] [--only WORD]
    ./just bench streams [--streams 256] [--seconds 60]
    ./just bench ledger                # usage records into the ledger

All on one machine: the load, the contender and a fast upstream. Contenders take turns
for several rounds; what counts is the median of the rounds, and the ratio to the bare
shape in the same run. Results go to ``benchmarks/results/``.
"""

import argparse
import asyncio
import shutil
import statistics
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import contenders
import ledger
from contenders import HERE, PEERS, Contender
from load import Result, Target, hammer, stream
from results_file import keep

from embedded.ports import HOST, Ports

OURS: Final = "Digital Employee"
BARE: Final = "bare shape"
WARM_UP: Final = 300
ALONE: Final = 400
STREAM_WORDS: Final = 20
STREAM_TOKEN_MS: Final = 250.0


@dataclass(frozen=True)
class Round:
    """One contender in one round."""

    name: str
    alone: Result
    together: Result


@dataclass(frozen=True)
class Flow:
    """One contender's streams."""

    name: str
    result: Result
    rss_mib: tuple[float, float]
    """Before and after."""


@asynccontextmanager
async def vendor(ports: Ports, *options: str) -> AsyncGenerator[str]:
    """Run the upstream meanwhile; yield its base URL."""
    port = ports.pick(8700)
    script = str(HERE / "upstream.py")
    command = [sys.executable, script, "--port", str(port), "--model", contenders.MODEL]
    with contenders.running([*command, *options]):
        url = f"http://{HOST}:{port}/v1"
        await contenders.answering(Target(f"{url}/chat/completions", {}, "x"))
        yield url


async def measure(names: Sequence[str], rounds: int, seconds: float, clients: int):  # noqa: ANN201
    """Let the contenders take turns."""
    found: list[Round] = []
    with Ports() as ports:
        async with vendor(ports) as url:
            for number in range(1, rounds + 1):
                for name in names:
                    print(f"round {number}: {name} …", flush=True)
                    async with contenders.start(name, url, ports) as contender:
                        found.append(await one_round(contender, seconds, clients))
                        print("   ", said(found[-1]), flush=True)
    return found


async def one_round(contender: Contender, seconds: float, clients: int) -> Round:
    """Warm up, then ask alone and together."""
    await hammer(contender.target, clients, requests=WARM_UP)
    alone = await hammer(contender.target, 1, requests=ALONE)
    together = await hammer(contender.target, clients, duration_s=seconds)
    return Round(contender.name, alone, together)


def said(found: Round) -> str:
    """Return one round in words."""
    late, failed = found.together.percentile(99), found.alone.failed
    return (
        f"alone p50 {found.alone.percentile(50):.2f} ms; together "
        f"{found.together.per_second:.0f}/s, p99 {late:.1f} ms, "
        f"{failed + found.together.failed} failed"
    )


async def flow(names: Sequence[str], streams: int, seconds: float) -> list[Flow]:
    """Hold many streams open at each contender in turn."""
    found: list[Flow] = []
    options = ("--tokens", str(STREAM_WORDS), "--token-ms", str(STREAM_TOKEN_MS))
    with Ports() as ports:
        async with vendor(ports, *options) as url:
            for name in names:
                print(f"streams: {name} …", flush=True)
                async with contenders.start(name, url, ports) as contender:
                    await stream(contender.target, 8, STREAM_WORDS, duration_s=1)
                    before = contender.rss_mib()
                    result = await stream(
                        contender.target, streams, STREAM_WORDS, duration_s=seconds
                    )
                    memory = (before, contender.rss_mib())
                    found.append(Flow(name, result, memory))
                    first = result.percentile(50)
                    clean = result.requests - result.failed
                    print(f"    {clean} clean of {result.requests}, {first:.1f} ms")
    return found


def calls_table(rounds: Sequence[Round]) -> list[str]:
    """Return the medians of the rounds, and the ratios to the bare shape."""
    lines = [
        "| | p50 ms, 1 client | calls/s together | p99 ms | failed | to bare shape |",
        "|---|---|---|---|---|---|",
    ]
    names = list(dict.fromkeys(each.name for each in rounds))
    rates = {
        name: statistics.median(
            each.together.per_second for each in rounds if each.name == name
        )
        for name in names
    }
    for name in names:
        mine = [each for each in rounds if each.name == name]
        alone = statistics.median(each.alone.percentile(50) for each in mine)
        late = statistics.median(each.together.percentile(99) for each in mine)
        failed = sum(each.alone.failed + each.together.failed for each in mine)
        ratio = f"{rates[name] / rates[BARE]:.3f}" if BARE in rates else "–"
        lines.append(
            f"| {name} | {alone:.2f} | {rates[name]:.0f} | {late:.1f} | {failed} "
            f"| {ratio} |"
        )
    return lines


def streams_table(flows: Sequence[Flow]) -> list[str]:
    """Return what became of the streams."""
    lines = [
        "| | streams | clean | first token ms p50 | p99 | MiB before → after |",
        "|---|---|---|---|---|---|",
    ]
    for each in flows:
        result, (before, after) = each.result, each.rss_mib
        clean = result.requests - result.failed
        lines.append(
            f"| {each.name} | {result.requests} | {clean} "
            f"| {result.percentile(50):.1f} | {result.percentile(99):.1f} "
            f"| {before:.0f} → {after:.0f} |"
        )
    return lines


def install_peers() -> None:
    """Install the peers with the ordinary clients of their registries."""
    PEERS.mkdir(exist_ok=True)
    folder = PEERS / "litellm"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = str(folder / "bin" / "pip")
    subprocess.run([pip, "install", "--quiet", "litellm[proxy]"], check=True)
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not installed: Portkey is left out")
        return
    subprocess.run(
        [npm, "install", "--silent", "@portkey-ai/gateway"], cwd=PEERS, check=True
    )


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("broker", "streams", "ledger", "peers"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--only", default="", help="contenders with this in the name")
    chosen = parser.parse_args()
    if chosen.what == "peers":
        install_peers()
        return
    if chosen.what == "ledger":
        ledger.run()
        return
    peers = [name for name, is_here in contenders.installed().items() if is_here]
    names = [each for each in (BARE, OURS, *peers) if chosen.only in each]
    if chosen.what == "broker":
        rounds = asyncio.run(
            measure(names, chosen.rounds, chosen.seconds or 5, chosen.clients)
        )
        title = f"Calls, {chosen.clients} clients together, {chosen.rounds} rounds,"
        keep("broker", title, calls_table(rounds))
    else:
        flows = asyncio.run(flow(names, chosen.streams, chosen.seconds or 60))
        title = (
            f"{chosen.streams} concurrent streams of {STREAM_WORDS} words, "
            f"{STREAM_TOKEN_MS:g} ms apart,"
        )
        keep("streams", title, streams_table(flows))


if __name__ == "__main__":
    main()
