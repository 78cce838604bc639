"""
Run the simulation: ``python -m testkit.simulate [--seeds N | --seed S]``.

A failure prints its seed, and the seed repeats it. ``--plant BUG`` puts a known bug
into the code and succeeds when one of the seeds finds it.
"""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from telemetry.logs import silence
from testkit.checks import broken
from testkit.clock import Deadlock, SimulationLoop, run_simulation
from testkit.plan import Plan
from testkit.plants import Plant, planted
from testkit.world import World

LIMIT_S: Final = 20_000.0
LINES_SHOWN: Final = 60


@dataclass(frozen=True)
class Result:
    """What came of one seed."""

    seed: int
    findings: tuple[str, ...]
    digest: str
    """The hash of everything that happened; equal for equal seeds."""
    crashes: int
    happened: int
    virtual_s: float


def plan_of(seed: int) -> Plan:
    """Return a seed's plan: half have a NATS that loses its store, half have events."""
    if seed % 2 == 0:
        return Plan(events=0, wipes=True)
    return Plan(tasks=3, events=12, wipes=False)


def simulate(seed: int, plant: Plant | None = None, *, verbose: bool = False) -> Result:
    """Run one seed to its end and check it."""
    if not verbose:
        silence()
    worlds: list[World] = []
    findings: list[str] = []

    async def main(loop: SimulationLoop) -> None:
        world = World(loop, seed, plan_of(seed))
        world.trace.keeps = verbose
        worlds.append(world)
        await world.run()
        findings.extend(await broken(world))

    with planted(plant):
        try:
            run_simulation(main, limit_s=LIMIT_S)
        except (Deadlock, TimeoutError) as error:
            findings.append(f"it never ended: {error!r}")
    (world,) = worlds
    if verbose:
        sys.stdout.write("\n".join(world.trace.lines[-LINES_SHOWN:]) + "\n")
    return Result(
        seed,
        tuple(findings),
        world.trace.digest,
        world.crashes,
        world.trace.count,
        world.loop.time(),
    )


def main() -> int:
    """Run the seeds that the command line asks for."""
    parser = argparse.ArgumentParser(prog="testkit.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many, from --first")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seed", type=int, help="only this one, with its last steps")
    parser.add_argument("--plant", type=Plant, choices=list(Plant))
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    given = parser.parse_args()
    if given.seed is not None:
        result = simulate(given.seed, given.plant, verbose=True)
        _tell(result)
        return _verdict([result], given.plant)
    seeds = range(given.first, given.first + given.seeds)
    results: list[Result] = []
    with ProcessPoolExecutor(given.jobs) as pool:
        for result in pool.map(partial(simulate, plant=given.plant), seeds):
            results.append(result)
            if result.findings:
                _tell(result)
                if given.plant is not None:
                    pool.shutdown(cancel_futures=True)
                    break
    return _verdict(results, given.plant)


def _tell(result: Result) -> None:
    sys.stdout.write(
        f"seed {result.seed}: {result.crashes} crashes, {result.happened} happenings, "
        f"{result.virtual_s:.0f} s, {result.digest[:16]}\n"
    )
    for finding in result.findings:
        sys.stdout.write(f"  {finding}\n")
    sys.stdout.flush()


def _verdict(results: list[Result], plant: Plant | None) -> int:
    failed = [result.seed for result in results if result.findings]
    crashes = sum(result.crashes for result in results)
    sys.stdout.write(f"{len(results)} seeds, {crashes} crashes, failed: {failed}\n")
    if plant is not None:
        return 0 if failed else 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
