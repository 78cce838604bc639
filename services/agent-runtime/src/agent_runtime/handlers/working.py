"""
Work on a claimed step: ask the domain, perform, record, until it ends.

What is saved is decided by what comes next: a turn is in the store before the next
call of the model and before any tool that is not pure. Pure tools are performed
first and saved with their turn, in one commit.
"""

import asyncio
from typing import assert_never

import telemetry
from agent_runtime.domain import tools
from agent_runtime.domain.agent_loop import (
    CallModel,
    CallTools,
    Fail,
    Finish,
    limits_of,
    next_action,
)
from agent_runtime.domain.prompt import completion_request
from agent_runtime.domain.step import (
    CANCELLED,
    Ending,
    StepLease,
    completed,
    failed,
    step_finished,
    turn_finished,
)
from agent_runtime.domain.transcript import Transcript, Turn
from agent_runtime.handlers.asking import Unanswered, ask
from agent_runtime.ports import Claimed, Deps, Running, Work
from determinism import within
from faults import TransientFault
from telemetry import names

log = telemetry.get_logger()


async def work_on(claimed: Claimed, cancelled: asyncio.Event, deps: Deps) -> None:
    """
    Carry a step to its end, or stop quietly when its lease is lost.

    Args:
        claimed: The step; its lease is this process's.
        cancelled: Set from outside to stop it; set here when the lease says so.
        deps: Ports.
    """
    attributes = {
        names.DE_TENANT: claimed.step.tenant,
        names.DE_TASK: claimed.step.task_id,
        names.DE_STEP: claimed.step.step_id,
        names.DE_EMPLOYEE: claimed.brief.employee,
    }
    with telemetry.consumer_span("run_step", claimed.carrier, attributes):
        async with asyncio.TaskGroup() as group:
            running = Running(claimed, group, cancelled, asyncio.Event())
            loop = group.create_task(_Loop(running, deps).run())
            beat = group.create_task(_keep_lease(running, loop, deps))
            loop.add_done_callback(lambda _: beat.cancel())


async def _keep_lease(running: Running, loop: asyncio.Task[None], deps: Deps) -> None:
    """Renew the lease while the loop runs; cancel the loop when it is lost."""
    lease: StepLease | None = running.claimed.lease
    while lease is not None and deps.clock.now() < lease.until:
        if lease.wants_cancel:
            running.cancelled.set()
        await deps.clock.sleep(deps.pace.heartbeat_s)
        try:
            lease = await _renew(lease, deps)
        except TransientFault as fault:
            # It is ours until its time is up: go on trying until then.
            log.warning("lease_not_renewed", code=fault.code, detail=fault.detail)
    if running.ending.is_set():
        # The loop is giving the lease up itself; its commit tells whether in time.
        return
    log.warning("lease_lost", step_id=running.claimed.step.step_id)
    loop.cancel()


async def _renew(lease: StepLease, deps: Deps) -> StepLease | None:
    now = deps.clock.now()
    renewal = deps.store.run(lambda work: work.leases.renew(lease, now))
    return await within(deps.pace.lease_s / 2, renewal, "renew a step's lease")


class _LeaseLost(Exception):
    """Someone else works on the step: nothing of ours counts any more."""


class _Loop:
    """One employee at one step; the domain decides, this performs."""

    def __init__(self, running: Running, deps: Deps) -> None:
        claimed = running.claimed
        self._running = running
        self._deps = deps
        self._step = claimed.step
        self._brief = claimed.brief
        self._employee = claimed.employee.employee
        self._limits = limits_of(self._employee, self._brief, claimed.began_at)
        self._transcript: Transcript = claimed.transcript
        self._unsaved: dict[int, Turn] = {}

    async def run(self) -> None:
        """Do what the domain says until the step ends or its lease is lost."""
        try:
            # Each turn takes two passes, one of them its tools'; one more ends it.
            for _ in range(2 * self._limits.turns_max + 2):
                ending = await self._advance()
                if ending is not None:
                    await self._end(ending)
                    return
        except _LeaseLost:
            log.warning("lease_lost", step_id=self._step.step_id)
            return
        message = f"{self._step.step_id} goes round without end"
        raise RuntimeError(message)

    async def _advance(self) -> Ending | None:
        if self._running.cancelled.is_set():
            return CANCELLED
        now = self._deps.clock.now()
        action = next_action(self._transcript, self._employee, self._limits, now)
        match action:
            case CallModel():
                return await self._call_model(action)
            case CallTools():
                await self._call_tools(action)
                return None
            case Finish(output):
                return completed(output)
            case Fail(problem):
                return failed(problem)
            case _:
                assert_never(action)

    async def _call_model(self, call: CallModel) -> Ending | None:
        await self._save()
        started_at = self._deps.clock.now()
        request = completion_request(
            self._brief, self._employee, self._transcript, call, self._limits.deadline
        )
        attributes = {names.DE_TURN: call.turn}
        with telemetry.span("ask_model", attributes):
            outcome = await ask(request, self._running, call.turn, self._deps)
        if isinstance(outcome, Unanswered):
            cancelled = self._running.cancelled.is_set()
            return CANCELLED if cancelled else failed(outcome.problem)
        answered_at = self._deps.clock.now()
        self._keep(Turn(call.turn, outcome.completion, started_at, answered_at))
        return None

    async def _call_tools(self, action: CallTools) -> None:
        if not all(tools.is_pure(call) for call in action.calls):
            # The intent is on disk before anything outside can change.
            await self._save()
        allowed, files = self._employee.tools, self._brief.files
        with telemetry.span("call_tools", {names.DE_TURN: action.turn}):
            results = tools.perform(action.calls, allowed, files)
        for call, result in zip(action.calls, results, strict=True):
            tool = call.name if call.name in tools.CATALOGUE else names.OTHER
            outcome = "invalid" if result.is_error else "ok"
            telemetry.metrics.tool_calls_total.add(1, tool=tool, outcome=outcome)
        self._keep(self._transcript[-1].performed(results, self._deps.clock.now()))

    def _keep(self, turn: Turn) -> None:
        """Put a turn, or its results, at the transcript's end."""
        self._transcript = (*self._transcript[: turn.number - 1], turn)
        self._unsaved[turn.number] = turn

    async def _save(self) -> None:
        if not self._unsaved:
            return
        now, lease = self._deps.clock.now(), self._running.claimed.lease

        def transaction(work: Work) -> bool:
            if work.leases.renew(lease, now) is None:
                return False
            self._write_turns(work)
            return True

        if not await self._deps.store.run(transaction):
            raise _LeaseLost
        self._unsaved.clear()

    async def _end(self, ending: Ending) -> None:
        now, lease = self._deps.clock.now(), self._running.claimed.lease

        def transaction(work: Work) -> bool:
            if not work.leases.finish(lease):
                return False
            self._write_turns(work)
            work.steps.close(self._step.step_id, now)
            owed = step_finished(
                self._step,
                ending,
                now,
                fence=lease.fence,
                transcript=self._transcript,
                attempts=work.steps.attempts(self._step.step_id),
            )
            work.outbox.add((owed,), now)
            return True

        self._running.ending.set()
        if not await self._deps.store.run(transaction):
            raise _LeaseLost
        telemetry.metrics.steps_total.add(1, status=ending.outcome.value)
        log.info(
            "step_finished", step_id=self._step.step_id, task_id=self._step.task_id,
            outcome=ending.outcome.value, turn_count=len(self._transcript),
            code=None if ending.problem is None else ending.problem.code.value,
        )  # fmt: skip

    def _write_turns(self, work: Work) -> None:
        fence, now = self._running.claimed.lease.fence, self._deps.clock.now()
        for turn in self._unsaved.values():
            work.steps.append(self._step.step_id, fence, turn)
            if turn.is_whole:
                work.outbox.add((turn_finished(self._step, turn, fence),), now)
