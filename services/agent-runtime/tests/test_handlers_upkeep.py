"""Leases beside ends, and steps that are forgotten."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from agent_world import World, checks_letter, failure, play, without_schema
from sqlalchemy import func, select

from agent_runtime.adapters.tables import SHARED, RuntimeTable
from agent_runtime.handlers.pruning import prune
from agent_runtime.handlers.steps import claim
from agent_runtime.handlers.working import work_on
from agent_runtime.ports import Claimed, Store, Work
from contracts.completions import CompletionRequest
from contracts.frames import Failed
from contracts.problems import Code
from determinism import Clock

T = TypeVar("T")


@dataclass(frozen=True)
class SlowStore:
    """A store whose commits are told late, those of heartbeats at once."""

    store: Store
    clock: Clock
    calls: list[str] = field(default_factory=list[str])

    async def run(self, transaction: Callable[[Work], T]) -> T:
        result = await self.store.run(transaction)
        is_commit = isinstance(result, bool) and result
        if is_commit:
            self.calls.append("committed")
            await self.clock.sleep(0.05)
            self.calls.append("told")
        return result

    async def read(self, query: Callable[[Work], T]) -> T:
        return await self.store.read(query)


async def rows(world: World, name: str) -> int:
    """Count a table's rows."""
    table = {**RuntimeTable.metadata.tables, "lease": SHARED.lease}[name]
    query = select(func.count()).select_from(table)
    return await world.database.read(lambda conn: conn.scalar(query) or 0)


def test_a_heartbeat_beside_the_end_is_no_loss() -> None:
    """A renewal that comes just after the step's own end loses nothing."""

    async def test(world: World) -> None:
        process = world.process("a", steps_max=0)
        await world.hire(process)
        await world.ring(process, world.brief())
        slow = SlowStore(process.deps.store, world.clock)
        pace = replace(process.deps.pace, heartbeat_s=0.01)
        deps = replace(process.deps, store=slow, pace=pace)
        now = world.clock.now()
        claimed = await deps.store.run(lambda work: claim(work, "step_one", now))
        assert isinstance(claimed, Claimed)
        await work_on(claimed, asyncio.Event(), deps)
        assert len(world.finished()) == 1
        assert slow.calls[-1] == "told", "the loop was cancelled before it knew"

    play(checks_letter, test)


def test_no_call_is_begun_without_time_for_it() -> None:
    """The last moment of a step is not spent on a call that cannot be answered."""
    left_s: list[float] = []
    worlds: list[World] = []

    def never(request: CompletionRequest) -> Failed:
        left = request.deadline - worlds[0].clock.now()
        left_s.append(left.total_seconds())
        return failure(Code.DEADLINE, retryable=True)

    async def test(world: World) -> None:
        worlds.append(world)
        process = world.process("a")
        await world.hire(process, without_schema(wall_time_s=8))
        await world.ring(process, world.brief())
        (end,) = await world.until_finished()
        assert end.problem is not None
        assert end.problem.code is Code.DEADLINE
        assert len(left_s) > 3
        assert min(left_s) >= 1

    play(never, test)


def test_old_steps_are_forgotten_whole() -> None:
    """A step that ended long ago leaves nothing; a recent one stays as it is."""

    async def test(world: World) -> None:
        process = world.process("a")
        await world.hire(process)
        await world.ring(process, world.brief("old"))
        await world.until_finished(1)
        await world.clock.sleep(300)
        await world.ring(process, world.brief("recent"))
        await world.until_finished(2)
        deps = replace(process.deps, pace=replace(process.deps.pace, keep_s=200))
        assert await prune(deps) == 1
        assert await prune(deps) == 0
        assert world.knows("bell_step_old", "bell_step_recent") == {"bell_step_recent"}
        # Three answers, and the results of the two that used tools.
        assert await rows(world, "transcript") == 5
        assert await rows(world, "lease") == await rows(world, "step") == 1

    play(checks_letter, test)
