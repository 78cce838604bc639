"""What is asked about tasks."""

from typing import Final

from contracts.problems import Code
from contracts.tasks import (
    GetTask,
    ListTaskEvents,
    ListTasks,
    TaskEventPage,
    TaskPage,
    TaskView,
)
from messaging.refusals import Refused, refuse
from orchestrator.domain.cursor import Cursor, read_cursor
from orchestrator.domain.state import Run
from orchestrator.domain.view import fitting, view
from orchestrator.handlers.runs import unknown_task
from orchestrator.ports import Deps, Work

LISTED_CHARS_MAX: Final = 500


async def get_task(request: GetTask, deps: Deps) -> TaskView:
    """
    Return a task with its steps and turns.

    A task of very many turns shows the newest, and what does not fit into one reply
    is left out; its history has it all.

    Raises:
        Refused: ``not-found``.
    """

    def query(work: Work) -> TaskView | None:
        story = work.story(request.tenant, request.task_id)
        run = work.find(request.tenant, request.task_id)
        if run is None:
            return None
        return fitting(view(run, work.brief(request.tenant, request.task_id), story))

    found = await deps.store.read(query)
    if found is None:
        raise _not_found(request.task_id)
    return found


async def list_tasks(request: ListTasks, deps: Deps) -> TaskPage:
    """
    Return a page of tasks, newest first: without steps, input and output.

    Raises:
        Refused: ``invalid`` for a cursor that is not one of ours.
    """
    after = None if request.cursor is None else read_cursor(request.cursor)
    if request.cursor is not None and after is None:
        detail = "The cursor is not one of ours: take next_cursor of the page before."
        raise refuse(Code.INVALID, detail)
    found = await deps.store.read(lambda work: work.page(request, after))
    page = found[: request.limit]
    last = page[-1] if len(found) > request.limit else None
    return TaskPage(
        tasks=tuple(_listed(run) for run in page),
        next_cursor=None
        if last is None
        else str(Cursor(last.created_at, last.task_id)),
    )


async def list_events(request: ListTaskEvents, deps: Deps) -> TaskEventPage:
    """
    Return a part of a task's history, in order.

    A page of large events ends before its limit; ``last_seq`` tells that there is
    more.

    Raises:
        Refused: ``not-found``.
    """
    tenant, task_id = request.tenant, request.task_id

    def query(work: Work) -> TaskEventPage | None:
        # The events first: a state that is newer than they are only means one
        # more question, an older one would hide the newest event.
        events = work.history(tenant, task_id, request.after, request.limit)
        run = work.find(tenant, task_id)
        if run is None:
            return None
        return TaskEventPage(events=tuple(events), status=run.status, last_seq=run.seq)

    found = await deps.store.read(query)
    if found is None:
        raise _not_found(task_id)
    return found


def _listed(run: Run) -> TaskView:
    listed = view(run, None, ())
    goal, reason = listed.goal, listed.problem
    if goal is not None:
        goal = _cut(goal)
    if reason is not None:
        reason = reason.model_copy(update={"detail": _cut(reason.detail), "errors": ()})
    return listed.model_copy(update={"goal": goal, "problem": reason})


def _cut(text: str) -> str:
    is_short = len(text) <= LISTED_CHARS_MAX
    return text if is_short else f"{text[:LISTED_CHARS_MAX]}…"


def _not_found(task_id: str) -> Refused:
    refusal = unknown_task(task_id)
    return refuse(refusal.code, refusal.detail)
