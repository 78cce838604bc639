"""A step's doorbell, its cancel, and its way back from a crash."""

from collections.abc import Callable
from datetime import datetime
from typing import assert_never

import telemetry
from agent_runtime.domain.step import (
    CANCELLED,
    Ending,
    Step,
    StepLease,
    cancelled_unheard,
    employee_unknown,
    step_finished,
)
from agent_runtime.ports import Claimed, Deps, Work
from contracts.steps import CancelStep, StepRequested
from messaging.bus import Delivery

log = telemetry.get_logger()


async def receive_step(message: StepRequested, delivery: Delivery, deps: Deps) -> None:
    """
    Write the step down and begin it, or leave it to whoever has room.

    The lease is the dedupe: a doorbell that rings twice finds it held or finished.
    """
    now = deps.clock.now()
    carrier = telemetry.carrier()
    has_seat = deps.seats.reserve()

    def transaction(work: Work) -> Claimed | Ending | None:
        if not _enter(work, message, delivery.message_id, carrier, now):
            return None
        if not has_seat:
            work.leases.shelve(message.step_id, now)
            return None
        return claim(work, message.step_id, now)

    if has_seat:
        await _seat(transaction, deps)
    else:
        await deps.store.run(transaction)
        deps.seats.note_backlog()
        log.info("step_left_waiting", step_id=message.step_id, task_id=message.task_id)


async def cancel_step(message: CancelStep, delivery: Delivery, deps: Deps) -> None:
    """Ask the step's holder to stop; end the step here when nobody holds it."""
    now = deps.clock.now()

    def transaction(work: Work) -> Ending | None:
        if not work.inbox.admit(delivery.message_id, now):
            return None
        tombstone = cancelled_unheard(message, now)
        if work.steps.enter(tombstone):
            work.outbox.add((step_finished(tombstone, CANCELLED, now),), now)
            return CANCELLED
        step = work.steps.get(message.step_id)
        if step is None or step.tenant != message.tenant or step.finished_at:
            return None
        if not work.leases.ask_to_cancel(message.step_id, now):
            return None
        lease = work.leases.claim(message.step_id, now)
        if lease is None:
            return None
        return _end(work, step, lease, CANCELLED, now)

    ending = await deps.store.run(transaction)
    if ending is not None:
        _count(ending)
    deps.seats.cancel(message.step_id)


async def resume_steps(limit: int, deps: Deps) -> int:
    """
    Claim steps that nobody works on and begin them, as far as there is room.

    Returns:
        How many such steps were seen; with ``limit`` there may be more.
    """
    now = deps.clock.now()
    found = await deps.store.read(lambda work: work.leases.unheld(now, limit))
    for step_id in found:
        if not deps.seats.reserve():
            break
        claimed = await _seat(lambda work, each=step_id: claim(work, each, now), deps)
        if claimed is not None:
            fence, turns = claimed.lease.fence, len(claimed.transcript)
            log.info("step_resumed", step_id=step_id, fence=fence, turn_count=turns)
    return len(found)


def claim(work: Work, step_id: str, now: datetime) -> Claimed | Ending | None:
    """
    Take the lease and load what is needed to work.

    Returns:
        An Ending when the step was ended instead, because it was cancelled or nobody
        can do it; None when it is held by another or had ended before.
    """
    lease = work.leases.claim(step_id, now)
    if lease is None:
        return None
    step = work.steps.get(step_id)
    if step is None or step.finished_at is not None or step.brief is None:
        work.leases.finish(lease)
        return None
    if lease.wants_cancel:
        return _end(work, step, lease, CANCELLED, now)
    employee = None
    if step.employee_version is not None:
        employee = work.employees.get(
            step.tenant, step.brief.employee, step.employee_version
        )
    if employee is None:
        return _end(work, step, lease, employee_unknown(step.brief), now)
    if step.began_at is None:
        work.steps.begin(step_id, now)
    return Claimed(
        step=step,
        brief=step.brief,
        employee=employee,
        began_at=step.began_at or now,
        lease=lease,
        transcript=work.steps.transcript(step_id),
        carrier=step.carrier,
    )


def _end(
    work: Work, step: Step, lease: StepLease, ending: Ending, now: datetime
) -> Ending:
    """End a step that was only claimed to be ended."""
    work.leases.finish(lease)
    work.steps.close(step.step_id, now)
    never_began = step.began_at is None and ending == CANCELLED
    owed = step_finished(
        step,
        ending,
        now,
        fence=0 if never_began else lease.fence,
        transcript=work.steps.transcript(step.step_id),
        attempts=work.steps.attempts(step.step_id),
    )
    work.outbox.add((owed,), now)
    return ending


def _enter(
    work: Work,
    message: StepRequested,
    message_id: str,
    carrier: dict[str, str],
    now: datetime,
) -> bool:
    """Write the step down, its employee pinned; False when it has ended already."""
    newest = work.employees.newest(message.tenant, message.employee)
    step = Step(
        tenant=message.tenant,
        task_id=message.task_id,
        step_id=message.step_id,
        message_id=message_id,
        brief=message,
        employee_version=None if newest is None else newest.version,
        received_at=now,
        carrier=carrier,
    )
    if work.steps.enter(step):
        return True
    known = work.steps.get(message.step_id)
    if known is not None and known.message_id != message_id:
        # Its row answers "have you got it?" for one id only; the inbox for others.
        work.inbox.admit(message_id, now)
    return known is not None and known.finished_at is None


async def _seat(
    transaction: Callable[[Work], Claimed | Ending | None], deps: Deps
) -> Claimed | None:
    """Run a claim in a reserved seat, and give the seat back unless it is used."""
    taken: Claimed | Ending | None = None
    try:
        taken = await deps.store.run(transaction)
    finally:
        if not isinstance(taken, Claimed):
            deps.seats.give_back()
    match taken:
        case Claimed():
            deps.seats.start(taken)
            return taken
        case Ending():
            _count(taken)
        case None:
            pass
        case _:
            assert_never(taken)
    return None


def _count(ending: Ending) -> None:
    telemetry.metrics.steps_total.add(1, status=ending.outcome.value)
