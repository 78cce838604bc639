"""``dectl deadletter``: list, replay."""

import base64
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.client import OUT, AsJson, ask, client, print_json, read_bytes

app = typer.Typer(no_args_is_help=True, help="Messages that could not be processed.")

Service = Annotated[str, typer.Argument(help="Whose store: orchestrator")]


@app.command("list")
def list_dead_letters(service: Service, *, as_json: AsJson = False) -> None:
    """List open dead letters, newest first."""
    with client() as opened:
        page = ask(opened, "GET", f"/v1/deadletters/{service}")
    if as_json:
        print_json(page)
        return
    table = Table(box=None, header_style="bold")
    for column in ("id", "subject", "reason", "detail", "at"):
        table.add_column(column, overflow="fold")
    for each in page["dead_letters"]:
        table.add_row(
            each["id"],
            escape(each["subject"]),
            escape(each["reason"]),
            escape(each["detail"]),
            each["created_at"][:19],
        )
    OUT.print(table)


@app.command("replay")
def replay_dead_letter(
    service: Service,
    letter_id: Annotated[str, typer.Argument(help="dead_…")],
    *,
    body: Annotated[Path | None, typer.Option(help="A repaired message")] = None,
) -> None:
    """Process a dead letter again, perhaps with a repaired body."""
    content = (
        {} if body is None else {"body": base64.b64encode(read_bytes(body)).decode()}
    )
    with client() as opened:
        ask(
            opened,
            "POST",
            f"/v1/deadletters/{service}/{letter_id}/replay",
            body=content,
        )
    OUT.print("replayed")
