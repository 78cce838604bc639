"""How things look to a person."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.json import JSON
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from cli.client import OUT, Json

ENDS: Final = frozenset({"completed", "failed", "cancelled"})
COLOURS: Final = {"completed": "green", "failed": "red", "cancelled": "yellow"}
ENDED_TRIES: Final = 3000
ENDED_PAUSE_S: Final = 0.2
RESULT_WIDTH: Final = 100
REST_WIDTH: Final = 90


def status(word: str) -> str:
    """Return a status with its colour."""
    colour = COLOURS.get(word, "cyan")
    return f"[{colour}]{word}[/]"


def tasks(found: Sequence[Json]) -> None:
    """Print a table of tasks."""
    table = Table(box=None, header_style="bold")
    # Ids are for pasting and money for adding; the goal is told where it fits.
    for column in ("task", "status", "cost $", "employee"):
        table.add_column(column, no_wrap=True)
    if OUT.width > REST_WIDTH:
        table.add_column("goal", no_wrap=True)
    for each in found:
        cells = [
            each["task_id"],
            status(each["status"]),
            each.get("cost", {}).get("usd", ""),
            each.get("employee", ""),
            escape((each.get("goal") or "")[: max(0, OUT.width - REST_WIDTH)]),
        ]
        table.add_row(*cells[: len(table.columns)])
    OUT.print(table)


def task(found: Json) -> None:
    """Print a task as a tree of steps and turns, then its result."""
    goal = escape(found.get("goal") or "")
    root = Tree(f"[bold]{found['task_id']}[/] {status(found['status'])} {goal}")
    for step in found.get("steps", ()):
        name = f"{step['employee']} [dim]{step['pointer']}[/]"
        branch = root.add(f"{name} {status(step['status'])}")
        for each in step.get("turns", ()):
            turn = branch.add(f"turn {each['turn']} [dim]{each['model']}[/]")
            for call in each.get("tool_calls", ()):
                turn.add(tool_call(call))
    OUT.print(root)
    result(found)


def result(found: Json) -> None:
    """Print what came out of a task, and what it cost."""
    problem = found.get("problem")
    if problem is not None:
        where = problem.get("instance", "")
        text = f"[red]{problem['code']}[/] {escape(problem['detail'])} [dim]{where}[/]"
        OUT.print(text, soft_wrap=True)
    if found.get("output") is not None:
        OUT.print(JSON.from_data(found["output"]), soft_wrap=True)
    cost = found.get("cost", {})
    provisional = " so far" if cost.get("provisional") else ""
    OUT.print(
        f"{status(found['status'])}  {found.get('turns', 0)} turns, "
        f"{found.get('tool_calls', 0)} tool calls, "
        f"{sum(found.get('usage', {}).values())} tokens, "
        f"{found.get('attempts', 0)} vendor calls, "
        f"[bold]${cost.get('usd', '?')}[/]{provisional}",
        highlight=False,
    )


def event(name: str, data: Json) -> Iterator[str]:
    """Yield the lines that a history event makes."""
    content: Json = data.get("data", {})
    if name == "turn.finished":
        turn: Json = content["turn"]
        said = escape(" ".join(turn.get("text", "").split())[:RESULT_WIDTH])
        yield f"[bold]turn {turn['turn']}[/] {said}"
        for call in turn.get("tool_calls", ()):
            yield f"  {tool_call(call)}"
    elif name not in {"end", ""}:
        yield f"[bold]{name}[/]"


def tool_call(call: Json) -> str:
    """Return one tool call in a line."""
    answer = escape(" ".join(call["result"].split())[:RESULT_WIDTH])
    colour = "red" if call.get("is_error") else "green"
    return f"{escape(call['name'])} {escape(call['arguments'])} [{colour}]→[/] {answer}"
