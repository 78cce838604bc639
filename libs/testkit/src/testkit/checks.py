"""What must be true of a world once it is calm; each broken promise is a finding."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

from sqlalchemy import text

from contracts.ledger import (
    GetTaskCost,
    LedgerLine,
    LedgerPage,
    ListLedger,
    TaskCosts,
)
from contracts.subjects import (
    LEDGER,
    TASK_COST,
    TASK_EVENTS,
    TASK_GET,
    TASK_LIST,
    Service,
)
from contracts.tasks import (
    GetTask,
    ListTaskEvents,
    ListTasks,
    TaskEvent,
    TaskEventPage,
    TaskEventType,
    TaskPage,
    TaskStatus,
    TaskView,
)
from contracts.usage import UsageSource
from testkit.scripted_vendor import VendorLine
from testkit.world import TASKS_MAX, TENANT, World

ENDS: Final = frozenset(
    {
        TaskEventType.TASK_COMPLETED,
        TaskEventType.TASK_FAILED,
        TaskEventType.TASK_CANCELLED,
    }
)


async def broken(world: World) -> list[str]:
    """Return what is broken, in words; nothing when all is well."""
    found = list(world.findings)
    tasks = await _tasks(world)
    lines = [line async for line in _lines(world)]
    found += _ends(world, tasks)
    for task in tasks.values():
        found += await _history(world, task)
    found += _attempts(world, lines)
    found += await _money(world, lines, list(tasks))
    for service in world.stores:
        for table in ("outbox", "dead_letter"):
            if rows := await world.count(service, table):
                found.append(f"{service} has {rows} rows left in its {table}")
    return found


def _ends(world: World, tasks: dict[str, TaskView]) -> list[str]:
    found: list[str] = []
    expected = dict(world.accepted.tasks)
    started = Counter(task.triggered_by for task in tasks.values())
    for event in sorted(world.accepted.events):
        count = started[f"asked:{event}"]
        if count != 1:
            found.append(f"event {event} started {count} tasks")
    lost = [task_id for task_id in expected if task_id not in tasks]
    found += [f"{task_id} was accepted and is lost" for task_id in lost]
    for task_id, task in tasks.items():
        may_be_cancelled = expected.get(task_id, False)
        allowed = {TaskStatus.COMPLETED}
        if may_be_cancelled:
            allowed.add(TaskStatus.CANCELLED)
        if task.status not in allowed:
            why = "" if task.problem is None else f": {task.problem.detail}"
            found.append(f"{task_id} is {task.status}{why}")
    return found


async def _history(world: World, task: TaskView) -> list[str]:
    events = [event async for event in _events(world, task.task_id)]
    found: list[str] = []
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        found.append(f"{task.task_id}: its history's sequences have gaps or repeats")
    kinds = Counter(event.type for event in events)
    if kinds[TaskEventType.TASK_STARTED] != 1:
        found.append(
            f"{task.task_id} started {kinds[TaskEventType.TASK_STARTED]} times"
        )
    ends = [event.seq for event in events if event.type in ENDS]
    if task.status.is_end and ends != [len(events)]:
        found.append(f"{task.task_id}: its ends are {ends} of {len(events)} events")
    for happened in (TaskEventType.STEP_STARTED, TaskEventType.STEP_FINISHED):
        steps = Counter(
            str(event.data["step_id"]) for event in events if event.type is happened
        )
        found += [
            f"{task.task_id}: {happened} {count} times for {step}"
            for step, count in steps.items()
            if count != 1
        ]
    return found + _turns(task)


def _turns(task: TaskView) -> list[str]:
    found: list[str] = []
    for step in task.steps:
        numbers = [turn.turn for turn in step.turns]
        if numbers != list(range(1, len(numbers) + 1)):
            found.append(f"{task.task_id}: {step.step_id} has turns {numbers}")
    return found


def _attempts(world: World, lines: list[LedgerLine]) -> list[str]:
    found: list[str] = []
    posted = Counter(line.attempt_id for line in lines)
    found += [
        f"{attempt} has {count} lines in force"
        for attempt, count in posted.items()
        if count != 1
    ]
    dispatched: dict[str, VendorLine] = {}
    for vendor in world.vendors.values():
        dispatched |= vendor.ledger
    for attempt, known in dispatched.items():
        if attempt not in posted:
            found.append(f"{attempt} was dispatched and has no ledger line")
        if known.dispatches != 1:
            found.append(f"{attempt} was dispatched {known.dispatches} times")
    for line in lines:
        known = dispatched.get(line.attempt_id)
        if line.source is UsageSource.VENDOR and (
            known is None
            or (known.reported is not None and known.reported != line.usage)
        ):
            found.append(f"{line.attempt_id}: its line is not what the vendor reported")
    return found


async def _money(world: World, lines: list[LedgerLine], tasks: list[str]) -> list[str]:
    found: list[str] = []
    total = text("SELECT coalesce(sum(pico_usd), 0) FROM ledger_entry")
    imbalance = await world.stores[Service.BILLING_METER].read(
        lambda connection: int(connection.execute(total).scalar_one())
    )
    if imbalance:
        found.append(f"the ledger's entries sum to {imbalance}, not 0")
    if not tasks:
        return found
    costs = await world.ask(
        TASK_COST.to(TENANT),
        GetTaskCost(tenant=TENANT, task_ids=tuple(tasks)),
        TaskCosts,
    )
    for cost in costs.costs:
        own = [line.pico_usd for line in lines if line.task_id == cost.task_id]
        if cost.pico_usd != sum(own) or cost.attempts != len(own):
            found.append(f"{cost.task_id} costs {cost.pico_usd}, its lines {sum(own)}")
    return found


async def _tasks(world: World) -> dict[str, TaskView]:
    request = ListTasks(tenant=TENANT, limit=TASKS_MAX)
    page = await world.ask(TASK_LIST.to(TENANT), request, TaskPage)
    found: dict[str, TaskView] = {}
    for task in page.tasks:
        found[task.task_id] = await world.ask(
            TASK_GET.to(TENANT), GetTask(tenant=TENANT, task_id=task.task_id), TaskView
        )
    return found


async def _events(world: World, task_id: str) -> AsyncIterator[TaskEvent]:
    after = 0
    while True:
        request = ListTaskEvents(tenant=TENANT, task_id=task_id, after=after)
        page = await world.ask(TASK_EVENTS.to(TENANT), request, TaskEventPage)
        for event in page.events:
            yield event
            after = event.seq
        if not page.events or after >= page.last_seq:
            return


async def _lines(world: World) -> AsyncIterator[LedgerLine]:
    cursor: str | None = None
    while True:
        request = ListLedger(tenant=TENANT, limit=500, cursor=cursor)
        page = await world.ask(LEDGER.to(TENANT), request, LedgerPage)
        for line in page.lines:
            yield line
        cursor = page.next_cursor
        if cursor is None:
            return
