"""
Prove the promises on real processes: ``./just prove``.

    python -m testkit.prove [--tasks 10] [--flood 200] [--only WORD]
    python -m testkit.prove leases …

Plays every scenario of ``prove_scenarios``, prints a table, and writes it with the
machine it ran on to ``benchmarks/results/prove-<date>.md``. Exits with 1 when a task
did not complete or the books do not agree. ``leases`` is ``prove_leases``.
"""

import argparse
import asyncio
import os
import platform as machine
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from determinism import SystemClock
from embedded.stack import SERVICES
from embedded.state import ROOT
from testkit import prove_leases
from testkit.platform import Platform
from testkit.prove_scenarios import (
    Outcome,
    Scenario,
    flood,
    kill_nats,
    kill_replicas,
    kill_service,
    play,
)

RESULTS: Final = ROOT / "benchmarks" / "results"
COLUMNS: Final = (
    *("scenario", "tasks", "completed", "attempts", "ledger lines"),
    *("unreported", "differences", "MiB at most", "alarms", "seconds"),
)
LEGEND: Final = (
    "Attempts are the sandbox vendor's own count; a difference is an attempt or a "
    "token on one ledger and not on the other, or an answer paid twice. Unreported "
    "lines are attempts whose usage the vendor could not tell a process that had "
    "been killed."
)
SHOWN_MAX: Final = 20
MIB: Final = 1 << 20
WIDTH_MIN: Final = 140


def scenarios(tasks: int, flood_tasks: int) -> dict[int, list[Scenario]]:
    """
    Return what to play, by the replicas of each service that it needs.

    Args:
        tasks: How many run when something is killed.
        flood_tasks: How many are handed in at once.
    """
    single = [
        flood(flood_tasks),
        *(kill_service(str(service), tasks) for service in SERVICES),
        kill_nats(tasks, wipe=False),
        kill_nats(tasks, wipe=True),
    ]
    return {1: single, 2: [flood(flood_tasks), kill_replicas(2 * tasks)]}


async def prove(tasks: int, flood_tasks: int, only: str) -> list[Outcome]:
    """Play the scenarios whose name has this word in it."""
    console, found = Console(stderr=True), list[Outcome]()
    for replicas, wanted in scenarios(tasks, flood_tasks).items():
        chosen = [each for each in wanted if only in each.name]
        if not chosen:
            continue
        platform = Platform(replicas)
        try:
            await platform.start()
            for scenario in chosen:
                console.print(f"{replicas} of each service: {scenario.name} …")
                found.append(await play(platform, scenario))
        finally:
            left = await platform.down()
        if left:
            raise AssertionError(f"processes were left running: {left}")
    return found


def cells(outcome: Outcome) -> tuple[str, ...]:
    """Return an outcome's row of the table."""
    books = outcome.books
    return (
        outcome.scenario,
        str(outcome.tasks),
        str(outcome.completed),
        str(books.attempts),
        str(books.lines),
        str(books.unreported),
        str(len(books.differences)),
        str(max(outcome.rss_bytes_max.values(), default=0) // MIB),
        str(len(outcome.alarms)),
        f"{outcome.duration_s:.1f}",
    )


def troubles(outcomes: Sequence[Outcome]) -> list[str]:
    """Return what went wrong, in words; at most some of each scenario."""
    return [
        f"{outcome.scenario}: {text}"
        for outcome in outcomes
        for text in (*outcome.problems, *outcome.books.differences)[:SHOWN_MAX]
    ]


def report(outcomes: Sequence[Outcome], at: datetime) -> str:
    """Return the document that is kept."""
    memory_mib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(cells(each) for each in outcomes)]
    ran_on = (
        f"{os.cpu_count()} cores, {memory_mib} MiB, {machine.system()} "
        f"{machine.release()}, Python {machine.python_version()}; the embedded "
        "platform, SQLite, the sandbox vendor. Made by `./just prove`."
    )
    lines = [
        *(f"# Proof of {at:%Y-%m-%d %H:%M} UTC", "", ran_on, ""),
        *("| " + " | ".join(row) + " |" for row in rows),
        *("", LEGEND, ""),
        *(f"- {text}" for text in troubles(outcomes)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Play, print, keep, and exit by what was found."""
    if sys.argv[1:2] == ["leases"]:
        del sys.argv[1]
        prove_leases.main()
    parser = argparse.ArgumentParser(prog="just prove", description=__doc__)
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--flood", type=int, default=200)
    parser.add_argument("--only", default="", help="scenarios with this in the name")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    outcomes = asyncio.run(prove(chosen.tasks, chosen.flood, chosen.only))
    table = Table(*COLUMNS)
    for outcome in outcomes:
        table.add_row(*cells(outcome))
    console = Console()
    console.width = max(console.width, WIDTH_MIN)
    console.print(table)
    for text in troubles(outcomes):
        console.print(text, style="red", markup=False)
    at = SystemClock().now()
    path: Path = chosen.results / f"prove-{at:%Y-%m-%d}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report(outcomes, at))
    console.print(f"kept in {path}")
    raise SystemExit(0 if outcomes and all(x.is_proven for x in outcomes) else 1)


if __name__ == "__main__":
    main()
