"""
A storm of vendor faults on the real platform: ``./just storm``.

    python -m testkit.storm [--calls 20000] [--seed 7] [--clients 48] [--only WORD]

Half of the calls meet each fault alone, half all of them mixed; both protocols,
streamed and whole, some hung up in the middle. Between two faults the broker is killed,
so that the next one meets closed breakers. Then the sandbox vendor's ledger is held
against ours, attempt by attempt. The schedule of faults is drawn from the seed and
the prompts, so the same seed brings the same storm. The table goes to
``benchmarks/results/storm-<date>.md``; exits with 1 when a call ended as none may, or
when the books do not agree.
"""

import argparse
import asyncio
import os
import platform as machine
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import aiohttp

from determinism import Clock, SystemClock
from embedded.state import ROOT
from testkit.platform import Platform
from testkit.prove_books import Books, compare
from testkit.storm_caller import Call, Door, Ending, Outcome, make
from testkit.until import NotInTimeError, until

RESULTS: Final = ROOT / "benchmarks" / "results"
IDLE_S: Final = 2.0
BOOKS_LIMIT_S: Final = 240.0
SHOWN_MAX: Final = 20
LEAVERS: Final = 0.05
FORBIDDEN: Final = (Ending.HIDDEN_CUT, Ending.SILENT)
TIERED: Final = "sandbox-openai/sandbox-small"
MODELS: Final = (
    *("smart", "fast", "sandbox-openai/sandbox-small"),
    "sandbox-anthropic/sandbox-claude",
)
REFUSALS: Final = (
    *("rate_limited_429", "rate_limited_429_plain", "rate_limited_429_seconds"),
    *("rate_limited_429_date", "rate_limited_429_ms", "rate_limited_429_retry"),
    *("rate_limited_429_final", "spend_limit_429", "bad_request_400"),
    *("context_length_400", "unauthenticated_401", "unpaid_402", "forbidden_403"),
    *("timed_out_408", "conflict_409", "too_large_413", "error_500"),
    *("bad_gateway_502", "unavailable_503", "gateway_timeout_504", "overloaded_529"),
)
SPENT: Final = ("spend_limit_429", "unpaid_402")
"""After one of these the account is left alone for minutes: not for the mix."""
BREAKS: Final = ("cut", "end", "stream_error", "bad_json")
FORMS: Final = (
    *("slow", "drip", "split", "crlf", "tight", "pings", "unknown_events"),
    *("usage_missing", "usage_zero", "usage_wrong", "usage_twice"),
    *("usage_lookalike", "usage_null_choices", "empty", "refused"),
)


LOWERED: Final = "tier_lowered"
"""Its calls ask for a dearer tier, and the vendor bills all of them as usual."""


def faults() -> dict[str, list[dict[str, Any]]]:
    """Return the faults by name, each with its numbers; some in several places."""
    found: dict[str, list[dict[str, Any]]] = {
        name: [{"fault": name, "delay_ms": 40}] for name in REFUSALS
    }
    for name in BREAKS:
        found[name] = [
            {"fault": name, "at": "start"},
            {"fault": name, "after_events": [1, 6]},
            {"fault": name, "at": "end"},
        ]
    found |= {name: [{"fault": name, "delay_ms": 1}] for name in FORMS}
    silent_ms = int(IDLE_S * 1000)
    for name, events in (("timeout", {}), ("stall", {"after_events": [1, 4]})):
        found[name] = [
            {"fault": name, "delay_ms": 300, **events},
            {"fault": name, "delay_ms": 2 * silent_ms, **events},
        ]
    found["reset"] = [{"fault": "reset"}]
    found["endless"] = [{"fault": "endless", "after_events": 3000}]
    return found


@dataclass(frozen=True)
class Weather:
    """A number of calls under one mix of faults."""

    name: str
    calls: int
    rate: float
    mix: Sequence[dict[str, Any]]

    def rules(self, seed: int) -> list[dict[str, Any]]:
        """Return the sandbox's rules."""
        mix = {"seed": seed, "rate": self.rate, "by": "prompt", "faults": [*self.mix]}
        return [{"mix": mix}]


def forecast(calls: int) -> list[Weather]:
    """Return every fault alone at every second call, then all mixed at every third."""
    known = faults()
    each = calls // 2 // (len(known) + 1)
    alone = [Weather(name, each, 0.5, mix) for name, mix in known.items()]
    alone.append(Weather(LOWERED, each, 1.0, [{"fault": LOWERED}]))
    passing = (mix for name, mix in known.items() if name not in SPENT)
    everything = [fault for mix in passing for fault in mix]
    return [*alone, Weather("mixed", calls - each * len(alone), 0.3, everything)]


def plan(weather: Weather, seed: int, first: int) -> Iterator[Call]:
    """Yield the calls of one weather; they depend on the seed alone."""
    # A seeded generator, not the system's chance.
    chance = Random(f"{seed}/{weather.name}")  # noqa: S311
    for number in range(first, first + weather.calls):
        stream = chance.random() < 0.7
        leaves = stream and chance.random() < LEAVERS
        door, model = chance.choice(list(Door)), chance.choice(MODELS)
        is_lowered = weather.name == LOWERED
        yield Call(
            number=number,
            door=Door.OPENAI if is_lowered else door,
            model=TIERED if is_lowered else model,
            service_tier="priority" if is_lowered else None,
            stream=stream,
            count_to=chance.randint(3, 24),
            leave_after=chance.randint(1, 8) if leaves else None,
        )


@dataclass(frozen=True)
class Passed:
    """What one weather did."""

    weather: Weather
    endings: Counter[Ending]
    bad: Sequence[Outcome]
    duration_s: float


async def pass_through(
    platform: Platform, weather: Weather, calls: Sequence[Call], clients: int, seed: int
) -> Passed:
    """Make the calls, so many at once."""
    clock: Clock = SystemClock()
    began_s = clock.monotonic()
    await platform.vendor.set_faults(weather.rules(seed))
    left = iter(calls)
    outcomes: list[Outcome] = []
    key = platform.endpoints["api_key"]
    connector = aiohttp.TCPConnector(limit=0)
    gateway = platform.endpoints["gateway"]

    async with aiohttp.ClientSession(gateway, connector=connector) as http:

        async def client() -> None:
            for call in left:
                headers = {
                    "authorization": f"Bearer {key}",
                    "anthropic-version": "2023-06-01",
                    "idempotency-key": f"storm-{seed}-{call.number}",
                }
                outcomes.append(await make(http, call, headers))

        await asyncio.gather(*(client() for _ in range(clients)))
    endings = Counter(each.ending for each in outcomes)
    bad = [each for each in outcomes if each.ending in FORBIDDEN]
    return Passed(weather, endings, bad, clock.monotonic() - began_s)


async def forget(platform: Platform) -> None:
    """Kill the broker, so that the next weather meets closed breakers."""
    await platform.kill("ai-broker")
    await platform.await_ready()


async def books_of(platform: Platform) -> Books:
    """Return the books once they agree, or as they are in the end."""
    newest: list[Books] = []

    async def look() -> bool:
        if await platform.vendor.open_calls():
            return False
        rows = await platform.vendor.rows()
        newest[:] = [compare(rows, await platform.customer.ledger(), ())]
        return not newest[0].differences

    try:
        await until(look, BOOKS_LIMIT_S, "the books to agree", poll_s=3)
    except NotInTimeError:
        if not newest:
            raise
    return newest[0]


async def storm(
    calls: int, seed: int, clients: int, only: str
) -> tuple[list[Passed], Books, list[str]]:
    """Play the storm on a platform of its own."""
    os.environ["AI_BROKER_VENDOR_IDLE_S"] = str(IDLE_S)
    platform = Platform()
    passed: list[Passed] = []
    try:
        await platform.start()
        await platform.vendor.clear()
        first = 0
        for weather in forecast(calls):
            if only not in weather.name:
                continue
            todo = list(plan(weather, seed, first))
            first += len(todo)
            passed.append(await pass_through(platform, weather, todo, clients, seed))
            print(line_of(passed[-1]), flush=True)  # noqa: T201 -- a long run's progress
            await forget(platform)
        await platform.vendor.set_faults([])
        books = await books_of(platform)
        alarms = platform.alarms()
    finally:
        await platform.down()
    return passed, books, alarms


def line_of(passed: Passed) -> str:
    """Return a weather's row of the table."""
    counts = [str(passed.endings[each]) for each in Ending]
    name, calls = passed.weather.name, str(passed.weather.calls)
    return "| " + " | ".join([name, calls, *counts, f"{passed.duration_s:.1f}"]) + " |"


def report(
    passed: Sequence[Passed],
    books: Books,
    alarms: Sequence[str],
    seed: int,
    at: datetime,
) -> str:
    """Return the document that is kept."""
    memory_mib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    ran_on = (
        f"{os.cpu_count()} cores, {memory_mib} MiB, {machine.system()} "
        f"{machine.release()}, Python {machine.python_version()}; the embedded "
        f"platform, SQLite, the sandbox vendor. Made by `./just storm --seed {seed}`."
    )
    endings = [each.value for each in Ending]
    total = sum(each.weather.calls for each in passed)
    told = (
        f"{total} calls; {books.attempts} calls of the vendor, {books.lines} lines on "
        f"the ledger, {books.unreported} of them flagged as not reported; "
        f"{len(books.differences)} differences; {len(alarms)} alarms in the logs."
    )
    return (
        "\n".join(
            [
                *(f"# Storm of {at:%Y-%m-%d %H:%M} UTC", "", ran_on, "", told, ""),
                "| " + " | ".join(["fault", "calls", *endings, "seconds"]) + " |",
                "|" + "---|" * (len(endings) + 3),
                *(line_of(each) for each in passed),
                "",
                *(f"- {text}" for text in troubles(passed, books, alarms)),
            ]
        ).rstrip()
        + "\n"
    )


def troubles(
    passed: Sequence[Passed], books: Books, alarms: Sequence[str]
) -> list[str]:
    """Return what went wrong, in words; at most some of each kind."""
    found = [
        f"{each.weather.name}: {bad.ending} {bad.call} {bad.status} {bad.error}"
        for each in passed
        for bad in each.bad[:SHOWN_MAX]
    ]
    return [*found, *books.differences[:SHOWN_MAX], *alarms[:SHOWN_MAX]]


def main() -> None:
    """Play, print, keep, and exit by what was found."""
    parser = argparse.ArgumentParser(prog="just storm", description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--clients", type=int, default=48)
    parser.add_argument("--only", default="", help="faults with this in the name")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    passed, books, alarms = asyncio.run(
        storm(chosen.calls, chosen.seed, chosen.clients, chosen.only)
    )
    at = SystemClock().now()
    text = report(passed, books, alarms, chosen.seed, at)
    path: Path = chosen.results / f"storm-{at:%Y-%m-%d}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(text)  # noqa: T201 -- a command's answer
    is_proven = passed and not any(each.bad for each in passed)
    raise SystemExit(0 if is_proven and not books.differences else 1)


if __name__ == "__main__":
    main()
