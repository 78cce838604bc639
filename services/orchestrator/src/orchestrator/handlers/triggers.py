"""Triggers, and the events that pull them."""

from typing import Final

from contracts.events import (
    ApplyTrigger,
    Event,
    ListTriggers,
    TriggerPage,
    TriggerVersion,
)
from contracts.problems import Code, ErrorEnvelope, Problem, problem
from faults import PermanentFault
from messaging.refusals import Refused
from messaging.subscriptions import ForeignEvent
from orchestrator.domain import events, triggers
from orchestrator.domain import run as runs
from orchestrator.domain.decision import Decision
from orchestrator.domain.document import digest
from orchestrator.handlers.runs import open_run
from orchestrator.handlers.telling import tell
from orchestrator.ports import Deps, Work
from telemetry import metrics, trace_id

TRIGGERS_MAX: Final = 500
FAILURES_SHOWN_MAX: Final = 8


async def apply_trigger(request: ApplyTrigger, deps: Deps) -> TriggerVersion:
    """
    Store a version of a trigger; the same document changes nothing.

    Raises:
        Refused: ``invalid`` with the fields, or ``conflict`` above the limit.
    """
    wrong = triggers.check(request.trigger)
    if wrong:
        detail = f"The trigger cannot work: {wrong[0].pointer}: {wrong[0].detail}"
        raise _refused(problem(Code.INVALID, detail, errors=wrong))
    now = deps.now()
    content = digest(request.trigger.model_dump(mode="json"))

    def transaction(work: Work) -> TriggerVersion | Problem:
        known = {each.trigger.name: each for each in work.triggers(request.tenant)}
        before = known.get(request.trigger.name)
        if before is not None and before.digest == content:
            return before
        if before is None and len(known) >= TRIGGERS_MAX:
            detail = f"{request.tenant} has {TRIGGERS_MAX} triggers, the most allowed."
            return problem(Code.CONFLICT, detail)
        version = TriggerVersion(
            tenant=request.tenant,
            version=1 if before is None else before.version + 1,
            digest=content,
            trigger=request.trigger,
            created_at=now,
        )
        if not request.dry_run:
            work.add_trigger(version)
        return version

    outcome = await deps.store.run(transaction)
    if isinstance(outcome, Problem):
        raise _refused(outcome)
    return outcome


async def list_triggers(request: ListTriggers, deps: Deps) -> TriggerPage:
    """Return a tenant's triggers, by name."""
    found = await deps.store.read(lambda work: work.triggers(request.tenant))
    return TriggerPage(triggers=tuple(found))


async def receive_event(foreign: ForeignEvent, deps: Deps) -> None:
    """
    Start a task for each trigger that waits for this event, each once.

    Raises:
        PermanentFault: The event cannot be read, or a trigger cannot use it: a
            dead letter with the reason, and a replay starts what is missing.
    """
    try:
        outcome = await _receive(_parsed(foreign), deps)
    except PermanentFault:
        metrics.events_received_total.add(1, outcome="permanent")
        raise
    metrics.events_received_total.add(1, outcome=outcome)


async def _receive(event: Event, deps: Deps) -> str:
    pulled = await deps.store.run(lambda work: _pull(work, event, deps))
    if pulled is None:
        return "duplicate"
    decisions, failures = pulled
    for decision in decisions:
        await tell(decision, deps)
    if failures:
        others = "; the other triggers' tasks have started" if decisions else ""
        shown = "; ".join(failures[:FAILURES_SHOWN_MAX])
        raise PermanentFault(f"{shown}{others}")
    return "ok"


def _pull(
    work: Work, event: Event, deps: Deps
) -> tuple[list[Decision | None], tuple[str, ...]] | None:
    """Open the runs that an event starts; None when all of them were before."""
    key, now, trace = events.message_id(event), deps.now(), trace_id()
    if work.has_admitted(key):
        return None
    waiting = [version.trigger for version in work.triggers(event.tenant)]
    pulled = triggers.pull(waiting, event, now)
    # An event that some trigger could not use is not done: a replay comes in.
    if not pulled.failures and not work.admit(key):
        return None
    decisions: list[Decision | None] = []
    for started in pulled.started:
        origin = runs.Origin(deps.step_deadline_s, started.triggered_by, trace)
        decision = runs.start(started.brief, now, origin)
        decisions.append(open_run(work, started.brief, decision))
    return decisions, pulled.failures


def _parsed(foreign: ForeignEvent) -> Event:
    return events.parse(
        events.Foreign(
            tenant=foreign.tenant,
            subject=foreign.subject,
            headers=foreign.headers,
            body=foreign.body,
            stream_created=foreign.stream_created,
            sequence=foreign.sequence,
        )
    )


def _refused(why: Problem) -> Refused:
    return Refused(ErrorEnvelope(problem=why))
