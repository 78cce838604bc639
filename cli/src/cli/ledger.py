"""``dectl ledger``: what every vendor attempt cost."""

from typing import Annotated, Final

import typer
from rich.table import Table

from cli.client import OUT, AsJson, Json, ask, client, print_json

ID_WIDTH: Final = len("attempt_") + 32
AMOUNT_WIDTH: Final = len("1,234,567,890,123")
TOKENS_WIDTH: Final = len("tokens")
END_WIDTH: Final = len("cancelled")


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
    # Ids are for pasting and amounts for adding: only names may be cut.
    table.add_column("attempt", no_wrap=True, min_width=ID_WIDTH)
    table.add_column("pico-USD", no_wrap=True, justify="right", min_width=AMOUNT_WIDTH)
    table.add_column("tokens", no_wrap=True, justify="right", min_width=TOKENS_WIDTH)
    table.add_column("end", no_wrap=True, min_width=END_WIDTH)
    for column in ("source", "model", "vendor"):
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    for line in page["lines"]:
        table.add_row(
            line["attempt_id"],
            f"{line['pico_usd']:,}",
            str(sum(line["usage"].values())),
            line["end_state"],
            line["source"],
            line["model"],
            line["vendor"],
        )
    OUT.print(table)
