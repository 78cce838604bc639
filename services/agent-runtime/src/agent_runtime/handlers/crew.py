"""
The seats of this process: a bounded number of steps at work, each in its own task.

When all seats are taken nothing is claimed: the step's row and its unheld lease wait
in the store, for the sweeper here or in another replica. Nothing here is needed for
correctness; a process that dies with all of it loses time only.
"""

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import cast

import telemetry
from agent_runtime.domain.step import failed, step_finished
from agent_runtime.handlers.steps import resume_steps
from agent_runtime.handlers.working import work_on
from agent_runtime.ports import Claimed, Deps, Work
from contracts.problems import Code, problem
from determinism import within
from faults import DeadlineExceeded, Fault, TransientFault

log = telemetry.get_logger()


class Crew:
    """Seats for steps; see ``ports.Seats``."""

    def __init__(self, steps_max: int) -> None:
        self._free = steps_max
        self._waiting: asyncio.Queue[Claimed] = asyncio.Queue(steps_max)
        self._stops: dict[str, asyncio.Event] = {}
        self._has_backlog = False
        self._freed = asyncio.Event()

    @property
    def free(self) -> int:
        """Return how many seats are not taken."""
        return self._free

    def reserve(self) -> bool:
        """Take a seat; False when all are taken."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    def give_back(self) -> None:
        """Return a seat that was reserved."""
        self._free += 1

    def start(self, claimed: Claimed) -> None:
        """Work on a claimed step, in the reserved seat."""
        self._stops[claimed.step.step_id] = asyncio.Event()
        self._waiting.put_nowait(claimed)

    def cancel(self, step_id: str) -> None:
        """Wake the step's runner, if it is here."""
        stop = self._stops.get(step_id)
        if stop is not None:
            stop.set()

    def note_backlog(self) -> None:
        """Remember that a step waits in the store for a seat."""
        self._has_backlog = True

    async def work(self, deps: Deps) -> None:
        """Work on steps as they are claimed, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                claimed = await self._waiting.get()
                group.create_task(self._sit(claimed, deps))

    async def sweep(self, deps: Deps) -> None:
        """Look for steps that nobody works on, until cancelled."""
        while True:
            self._freed.clear()
            try:
                limit = self._free
                seen = await resume_steps(limit, deps) if limit else 0
                self._has_backlog = limit == 0 or seen >= limit
            except Fault as fault:
                log.warning("sweep_failed", code=fault.code, detail=fault.detail)
            with suppress(DeadlineExceeded):
                await within(deps.pace.sweep_s, self._freed.wait(), "wait for a seat")

    async def _sit(self, claimed: Claimed, deps: Deps) -> None:
        step_id = claimed.step.step_id
        stop = self._stops.setdefault(step_id, asyncio.Event())
        try:
            await self._supervised(claimed, stop, deps)
        finally:
            # A later claim of the same step has put its own event there.
            if self._stops.get(step_id) is stop:
                del self._stops[step_id]
            self.give_back()
            if self._has_backlog:
                self._freed.set()

    async def _supervised(
        self, claimed: Claimed, stop: asyncio.Event, deps: Deps
    ) -> None:
        step_id, fence = claimed.step.step_id, claimed.lease.fence
        try:
            await work_on(claimed, stop, deps)
        except asyncio.CancelledError:
            await _release(claimed, deps)
            raise
        # One step's bug must not end the others: it is told, and tried again later.
        except Exception as error:
            is_bug = not _may_pass(error)
            if not is_bug:
                log.warning("step_interrupted", step_id=step_id, fence=fence)
                await _release(claimed, deps)
                return
            log.exception("step_crashed", step_id=step_id, fence=fence)
            if fence >= deps.pace.crashes_max:
                await _give_up(claimed, deps)


def _may_pass(error: BaseException) -> bool:
    if not isinstance(error, BaseExceptionGroup):
        return isinstance(error, TransientFault)
    # isinstance cannot tell what a group is of; its members are exceptions.
    members = cast("BaseExceptionGroup[BaseException]", error).exceptions
    return all(_may_pass(each) for each in members)


async def _release(claimed: Claimed, deps: Deps) -> None:
    """Let others go on with the step at once; without that they wait its lease out."""
    now = deps.clock.now()
    with suppress(Fault):
        release = deps.store.run(lambda work: work.leases.release(claimed.lease, now))
        await within(deps.pace.heartbeat_s, release, "release a step's lease")


async def _give_up(claimed: Claimed, deps: Deps) -> None:
    """Fail a step that meets the same bug again and again."""
    now = deps.clock.now()
    with suppress(Fault):
        await deps.store.run(lambda work: _fail(work, claimed, now))


def _fail(work: Work, claimed: Claimed, now: datetime) -> None:
    if not work.leases.finish(claimed.lease):
        return
    step_id, fence = claimed.step.step_id, claimed.lease.fence
    detail = f"The step met an internal error {fence} times; operators find it logged."
    work.steps.close(step_id, now)
    owed = step_finished(
        claimed.step,
        failed(problem(Code.INTERNAL, detail)),
        now,
        fence=fence,
        transcript=work.steps.transcript(step_id),
        attempts=work.steps.attempts(step_id),
    )
    work.outbox.add((owed,), now)
