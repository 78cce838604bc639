"""
Prove the budgets' leases in storms: ``./just prove leases``.

    python -m testkit.prove_leases [--storms 20] [--reservations 5000] [--first 1]

Runs storms of one seed each in the lean world of ``lean_world``, one after the other,
and writes what happened in them, with the machine, to
``benchmarks/results/leases-<date>.md``. Exits with 1 when a promise of
``lease_oracle`` was broken; the seed that is named repeats it.
"""

import argparse
import os
import platform as machine
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from determinism import SystemClock
from embedded.state import ROOT
from testkit.lean_world import LeanWorld
from testkit.lease_storm import BROKERS, Told, storm
from testkit.lease_worlds import SCOPES

RESULTS: Final = ROOT / "benchmarks" / "results"
PROMISES: Final = (
    "Held at every commit of the meter and at every call: spent + held ≤ limit, and "
    "what calls have cost or may still cost ≤ spent + held. No call was refused while "
    "the books had enough for it free for 2 s, or while enough of each of its limits "
    "lay idle for 5 s, in slices of living brokers too. In the end nothing is held, "
    "and each attempt's charge is what it cost, or its flagged estimate."
)


def report(told: Sequence[Told], duration_s: float, command: str, at: datetime) -> str:
    """Return the document that is kept."""
    counts: Counter[str] = Counter()
    for each in told:
        counts.update(each.counts)
    memory_mib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    virtual_h = sum(each.virtual_s for each in told) / 3_600
    ran_on = (
        f"{os.cpu_count()} cores, {memory_mib} MiB, {machine.system()} "
        f"{machine.release()}, Python {machine.python_version()}; {duration_s:.0f} s "
        f"for {virtual_h:.1f} virtual hours. Made by `{command}`."
    )
    what = (
        f"{len(told)} storms on {BROKERS} brokers and {len(SCOPES)} hard limits, seeds "
        f"{told[0].seed} to {told[-1].seed}. Broken promises: "
        f"{sum(len(each.findings) for each in told)}."
    )
    rows = [f"| {name} | {count:,} |" for name, count in sorted(counts.items())]
    lines = [
        *(f"# Lease storm of {at:%Y-%m-%d %H:%M} UTC", "", ran_on, "", what, ""),
        *(PROMISES, "", "| | |", "|---|---|", *rows, "", *troubles(told)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def troubles(told: Sequence[Told]) -> list[str]:
    """Return what went wrong, with the seed that repeats it."""
    return [f"- seed {each.seed}: {text}" for each in told for text in each.findings]


def main() -> None:
    """Storm, print, keep, and exit by what was found."""
    parser = argparse.ArgumentParser(prog="just prove leases", description=__doc__)
    parser.add_argument("--storms", type=int, default=20)
    parser.add_argument("--reservations", type=int, default=5_000, help="in each")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    clock = SystemClock()
    began_s, told = clock.monotonic(), list[Told]()
    for seed in range(chosen.first, chosen.first + chosen.storms):
        told.append(storm(seed, chosen.reservations, LeanWorld))
        reserved = told[-1].counts["reservations"]
        found = len(told[-1].findings)
        print(f"seed {seed}: {reserved} reservations, {found} findings", flush=True)  # noqa: T201 -- a long run's progress
    command = (
        f"./just prove leases --storms {chosen.storms} --reservations "
        f"{chosen.reservations} --first {chosen.first}"
    )
    at = clock.now()
    text = report(told, clock.monotonic() - began_s, command, at)
    path: Path = chosen.results / f"leases-{at:%Y-%m-%d}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(text)  # noqa: T201 -- a command's answer
    raise SystemExit(1 if troubles(told) else 0)


if __name__ == "__main__":
    main()
