"""``dectl task``: run, get, list, watch, cancel."""

import asyncio
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.live import Live
from rich.text import Text

from cli import show
from cli.client import (
    OUT,
    AsJson,
    Json,
    ask,
    client,
    fail,
    feed,
    print_json,
    read_argument,
    read_text,
)
from determinism import SystemClock

app = typer.Typer(no_args_is_help=True, help="Hand in, follow and stop tasks.")

TaskId = Annotated[str, typer.Argument(help="task_…")]
FAILED = 2


@app.command("run")
def run_task(
    employee: Annotated[str, typer.Argument(help="Who shall do it")],
    goal: Annotated[str, typer.Argument(help="What is wanted")],
    *,
    file: Annotated[
        list[Path] | None, typer.Option(help="A text document; may be repeated")
    ] = None,
    task_input: Annotated[
        str | None, typer.Option("--input", help="JSON, or @file")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency-Key")] = None,
    watch: Annotated[bool, typer.Option(help="Follow it to its end")] = True,
    as_json: AsJson = False,
) -> None:
    """Hand a goal to an employee and follow the task to its end."""
    body: Json = {"employee": employee, "goal": goal}
    if task_input is not None:
        body["input"] = read_argument(task_input)
    body["files"] = [
        {"name": path.name, "content": read_text(path)} for path in file or []
    ]
    with client() as opened:
        if key is not None:
            opened.headers["idempotency-key"] = key
        task = ask(opened, "POST", "/v1/tasks", body=body)
        if not watch:
            print_json(task) if as_json else OUT.print(task["task_id"])
            return
        if not as_json:
            OUT.print(f"[dim]{task['task_id']}[/]", highlight=False)
            _follow(opened, task["task_id"])
        _finish(opened, task["task_id"], as_json=as_json)


@app.command("get")
def get_task(task_id: TaskId, *, as_json: AsJson = False) -> None:
    """Show a task: status, output, steps, tokens, cost."""
    with client() as opened:
        task = ask(opened, "GET", f"/v1/tasks/{task_id}")
    print_json(task) if as_json else show.task(task)


@app.command("list")
def list_tasks(
    *,
    status: Annotated[str | None, typer.Option(help="Only these")] = None,
    employee: Annotated[str | None, typer.Option(help="Only this one's")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    as_json: AsJson = False,
) -> None:
    """List tasks, newest first."""
    params: Json = {"status": status, "employee": employee, "limit": limit}
    with client() as opened:
        page = ask(opened, "GET", "/v1/tasks", params=params)
    print_json(page) if as_json else show.tasks(page["tasks"])


@app.command("watch")
def watch_task(task_id: TaskId, *, as_json: AsJson = False) -> None:
    """Follow a task to its end; with --json, one event a line."""
    with client() as opened:
        if as_json:
            for name, data in feed(opened, f"/v1/tasks/{task_id}/events"):
                print_json({"event": name, "data": data})
            return
        _follow(opened, task_id)
        _finish(opened, task_id, as_json=False)


@app.command("cancel")
def cancel_task(
    task_id: TaskId,
    *,
    reason: Annotated[str | None, typer.Option(help="For the history")] = None,
    as_json: AsJson = False,
) -> None:
    """Stop a task, the running model call included."""
    with client() as opened:
        body = {"reason": reason}
        task = ask(opened, "POST", f"/v1/tasks/{task_id}/cancel", body=body)
    print_json(task) if as_json else OUT.print(task["status"])


def _follow(opened: httpx.Client, task_id: str) -> None:
    text = ""
    with Live(console=OUT, transient=True, refresh_per_second=12) as live:
        for name, data in feed(opened, f"/v1/tasks/{task_id}/events"):
            if name == "delta":
                text = data["text"] if data["offset"] == 0 else text + data["text"]
                live.update(Text(text[-2000:], style="dim"))
                continue
            if name == "error":
                fail(data.get("detail", "the feed broke off"))
            text = ""
            live.update(Text(""))
            for line in show.event(name, data):
                live.console.print(line, highlight=False, soft_wrap=True)


def _finish(opened: httpx.Client, task_id: str, *, as_json: bool) -> None:
    task = _ended(opened, task_id)
    print_json(task) if as_json else show.result(task)
    if task["status"] != "completed":
        raise typer.Exit(FAILED)


def _ended(opened: httpx.Client, task_id: str) -> Json:
    """Return the task once it has ended and its cost is final, or nearly so."""
    path = f"/v1/tasks/{task_id}"
    task = ask(opened, "GET", path)
    for _ in range(show.ENDED_TRIES):
        is_ended = task["status"] in show.ENDS
        if is_ended and not task.get("cost", {}).get("provisional", False):
            break
        asyncio.run(SystemClock().sleep(show.ENDED_PAUSE_S))
        task = ask(opened, "GET", path)
    return task
