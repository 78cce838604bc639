"""``dectl trace``: a task's way through every service, as a tree of spans."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.tree import Tree

from cli.client import OUT, AsJson, ask, client, fail, find_target, print_json
from telemetry.span_file import SpanRecord, read_spans

NS_PER_MS = 1_000_000


def show_trace(
    task_id: Annotated[str, typer.Argument(help="task_…")], *, as_json: AsJson = False
) -> None:
    """Draw a task's trace from the embedded platform's span files."""
    target = find_target()
    folder = target.endpoints.get("traces")
    if folder is None:
        fail("no span files: this needs the platform that ./just up started")
    with client(target) as opened:
        task = ask(opened, "GET", f"/v1/tasks/{task_id}")
    trace_id = task.get("trace_id")
    if trace_id is None:
        fail(f"{task_id} has no trace yet: it has not started")
    files = sorted(Path(folder).glob("*.jsonl*"))
    spans = [span for path in files for span in read_spans(path, trace_id)]
    if not spans:
        fail(f"no spans of {trace_id} in {folder} yet: try again in some seconds")
    if as_json:
        print_json([asdict(span) for span in spans])
        return
    for root in draw(spans):
        OUT.print(root)


def draw(spans: Iterable[SpanRecord]) -> list[Tree]:
    """Return one tree for each span whose parent is not among them."""
    ordered = sorted(spans, key=lambda span: span.start_ns)
    known = {span.span_id for span in ordered}
    children: dict[str | None, list[SpanRecord]] = defaultdict(list)
    for span in ordered:
        parent = span.parent_id
        children[parent if parent in known else None].append(span)
    began = ordered[0].start_ns
    return [_branch(root, children, began) for root in children[None]]


def _branch(
    span: SpanRecord, children: Mapping[str | None, list[SpanRecord]], began: int
) -> Tree:
    at_ms = (span.start_ns - began) / NS_PER_MS
    took_ms = (span.end_ns - span.start_ns) / NS_PER_MS
    colour = "red" if span.status == "error" else "default"
    tree = Tree(
        f"[{colour}]{span.name}[/] [cyan]{span.service}[/] "
        f"[dim]+{at_ms:.0f} ms, {took_ms:.1f} ms[/]",
        highlight=False,
    )
    for child in children.get(span.span_id, ()):
        tree.add(_branch(child, children, began))
    return tree
