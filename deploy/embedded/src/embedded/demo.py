"""The demo: one real task, its result, its cost, its timeline, and what to try next."""

from collections.abc import Mapping
from typing import Any, Final

import httpx
from rich.console import Console
from rich.json import JSON
from rich.table import Table

from embedded.state import ROOT, State

EMPLOYEE: Final = "invoice-clerk"
DOCUMENT: Final = "letter-4711.txt"
GOAL: Final = f"Check the supplier's letter {DOCUMENT}: do its sums add up?"
WAIT: Final = "60s"
LIMIT_S: Final = 90.0
COST_TRIES: Final = 50
OK: Final = 200


class DemoFailed(RuntimeError):
    """The demo task did not complete."""


async def run_demo(endpoints: Mapping[str, Any], console: Console) -> None:
    """
    Hand the demo task in, wait for its end, and show what happened.

    Raises:
        DemoFailed: It did not complete.
    """
    text = (ROOT / "examples" / "documents" / DOCUMENT).read_text()
    body = {
        "employee": EMPLOYEE,
        "goal": GOAL,
        "files": [{"name": DOCUMENT, "content": text}],
    }
    headers = {"authorization": f"Bearer {endpoints['api_key']}"}
    async with httpx.AsyncClient(
        base_url=endpoints["gateway"], headers=headers, timeout=LIMIT_S
    ) as client:
        answer = await client.post("/v1/tasks", params={"wait": WAIT}, json=body)
        if answer.status_code != OK or answer.json()["status"] != "completed":
            raise DemoFailed(answer.text)
        task = await _with_final_cost(client, answer.json())
    show(task, console)
    suggest(task, endpoints, console)


async def _with_final_cost(
    client: httpx.AsyncClient, task: dict[str, Any]
) -> dict[str, Any]:
    # The ledger follows within a second; each ask takes a moment by itself.
    for _ in range(COST_TRIES):
        if not task.get("cost", {}).get("provisional", True):
            break
        path = f"/v1/tasks/{task['task_id']}"
        task = (await client.get(path, params={})).json()
    return task


def show(task: Mapping[str, Any], console: Console) -> None:
    """Print a finished task for a person."""
    console.print(f"\n[bold]{task['task_id']}[/] {task['status']}: {task['goal']}")
    console.print(JSON.from_data(task.get("output")), soft_wrap=True)
    console.print(timeline(task))
    cost = task.get("cost", {})
    console.print(
        f"{task['turns']} turns, {task['tool_calls']} tool calls, "
        f"{tokens(task)} tokens, {task['attempts']} vendor calls, "
        f"[bold]${cost.get('usd', '?')}[/] on the ledger"
    )


def timeline(task: Mapping[str, Any]) -> Table:
    """Return a table of what happened, turn by turn."""
    table = Table(title="Timeline", title_justify="left")
    for column in ("turn", "model", "did", "result"):
        table.add_column(column, overflow="fold")
    for step in task.get("steps", ()):
        for turn in step.get("turns", ()):
            number = str(turn["turn"])
            calls = turn.get("tool_calls", ())
            if not calls:
                table.add_row(number, turn["model"], "answered", "")
            for call in calls:
                did = f"{call['name']} {call['arguments']}"
                result = " ".join(call["result"].split())[:80]
                table.add_row(number, turn["model"], did, result)
    return table


def tokens(task: Mapping[str, Any]) -> int:
    """Return all tokens of a task."""
    return sum(task.get("usage", {}).values())


def suggest(
    task: Mapping[str, Any], endpoints: Mapping[str, Any], console: Console
) -> None:
    """Print three things to try next."""
    console.print(
        "\n[bold]Try next[/]\n"
        f"  1. change a number in examples/documents/{DOCUMENT}, then: ./just demo\n"
        '  2. ./just task support-agent "Answer the customer in thread-1093.txt"'
        " --file examples/documents/thread-1093.txt\n"
        f"  3. ./just dectl trace {task['task_id']}\n"
        f"\nGateway {endpoints['gateway']} (docs at /docs), "
        f"everything else in {State().endpoints}\n",
        highlight=False,
        soft_wrap=True,
    )
