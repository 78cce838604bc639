"""``dectl ledger``: what every vendor attempt cost."""

from typing import Annotated

import typer
from rich.table import Table

from cli.client import OUT, AsJson, Json, ask, client, print_json


def show_ledger(
    task_id: Annotated[str | None, typer.Argument(help="Only this task's")] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    as_json: AsJson = False,
) -> None:
    """List ledger lines in force: one for every vendor attempt."""
    params: Json = {"task_id": task_id, "limit": limit}
    with client() as opened:
        page = ask(opened, "GET", "/v1/ledger", params=params)
    if as_json:
        print_json(page)
        return
    table = Table(box=None, header_style="bold")
    for column in ("attempt", "vendor", "model", "end", "tokens", "source", "pico-USD"):
        right = column in {"tokens", "pico-USD"}
        table.add_column(column, justify="right" if right else "left")
    for line in page["lines"]:
        table.add_row(
            line["attempt_id"],
            line["vendor"],
            line["model"],
            line["end_state"],
            str(sum(line["usage"].values())),
            line["source"],
            f"{line['pico_usd']:,}",
        )
    OUT.print(table)
