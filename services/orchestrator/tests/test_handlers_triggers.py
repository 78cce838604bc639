"""Triggers, and the events that pull them, over the real SQL adapter."""

import pytest
from orchestrator_world import World, foreign, trigger

from contracts.events import ApplyTrigger, ListTriggers
from contracts.steps import StepRequested
from contracts.tasks import (
    ListTasks,
)
from faults import PermanentFault
from messaging.refusals import Refused
from orchestrator.handlers import tasks, triggers


async def test_a_trigger_is_versioned_by_content(world: World) -> None:
    """The same document changes nothing; a dry run stores nothing."""
    first = await triggers.apply_trigger(
        ApplyTrigger(tenant="acme", trigger=trigger()), world.deps
    )
    again = await triggers.apply_trigger(
        ApplyTrigger(tenant="acme", trigger=trigger()), world.deps
    )
    changed = ApplyTrigger(tenant="acme", trigger=trigger(goal="Do."), dry_run=True)
    dry = await triggers.apply_trigger(changed, world.deps)
    second = await triggers.apply_trigger(
        changed.model_copy(update={"dry_run": False}), world.deps
    )
    assert (first.version, again.version, dry.version, second.version) == (1, 1, 2, 2)
    page = await triggers.list_triggers(ListTriggers(tenant="acme"), world.deps)
    assert page.triggers == (second,)
    theirs = await triggers.list_triggers(ListTriggers(tenant="globex"), world.deps)
    assert theirs.triggers == ()
    with pytest.raises(Refused) as refused:
        await triggers.apply_trigger(
            ApplyTrigger(tenant="acme", trigger=trigger(goal="{{ nope }}")), world.deps
        )
    assert refused.value.envelope.problem.errors[0].pointer == "/task/goal"


async def test_an_event_starts_each_waiting_trigger_once(world: World) -> None:
    """The event's identity, not its delivery, decides; the bell names both."""
    for name in ("invoices", "audit"):
        await triggers.apply_trigger(
            ApplyTrigger(tenant="acme", trigger=trigger(name)), world.deps
        )
    body = (
        b'{"specversion":"1.0","id":"e-1","source":"s","type":"t","data":{"number":7}}'
    )
    await triggers.receive_event(foreign(body, 1), world.deps)
    await triggers.receive_event(foreign(body, 2), world.deps)
    page = await tasks.list_tasks(ListTasks(tenant="acme"), world.deps)
    assert {task.triggered_by for task in page.tasks} == {"invoices:e-1", "audit:e-1"}
    assert len(page.tasks) == 2
    view = await world.task(page.tasks[0].task_id)
    assert (view.goal, view.input) == ("File 7.", {"number": 7})
    assert {bell.triggered_by for bell in world.bell.heard} == {
        "invoices:e-1",
        "audit:e-1",
    }
    requests = [each for each in await world.owed() if isinstance(each, StepRequested)]
    assert len(requests) == 2


async def test_a_trigger_that_cannot_use_an_event_stops_no_other(world: World) -> None:
    """The others start; the repaired replay starts what is missing, and only that."""
    for name, goal in (("audit", "Check."), ("invoices", "File {{ data.number }}.")):
        await triggers.apply_trigger(
            ApplyTrigger(tenant="acme", trigger=trigger(name, goal)), world.deps
        )
    for _ in range(2):  # delivered again, or replayed as it was
        with pytest.raises(PermanentFault, match=r"nothing at data\.number"):
            await triggers.receive_event(foreign(b"{}"), world.deps)
    page = await tasks.list_tasks(ListTasks(tenant="acme"), world.deps)
    assert [task.goal for task in page.tasks] == ["Check."]
    for _ in range(2):
        await triggers.receive_event(foreign(b'{"number":7}'), world.deps)
    page = await tasks.list_tasks(ListTasks(tenant="acme"), world.deps)
    assert {task.goal for task in page.tasks} == {"Check.", "File 7."}
    assert len(page.tasks) == 2
    assert len(await world.owed()) == 2


async def test_an_event_that_was_taken_starts_no_later_trigger(world: World) -> None:
    """What comes again is a repeat, also for triggers that were not there yet."""
    await triggers.receive_event(foreign(b"{}"), world.deps)
    for goal in ("File {{ data.number }}.", "Check."):
        await triggers.apply_trigger(
            ApplyTrigger(tenant="acme", trigger=trigger(goal=goal)), world.deps
        )
        await triggers.receive_event(foreign(b"{}"), world.deps)
    page = await tasks.list_tasks(ListTasks(tenant="acme"), world.deps)
    assert page.tasks == ()
