"""``dectl budget``: apply, list."""

from decimal import Decimal
from typing import Final

import typer
from rich.table import Table
from rich.text import Text

from cli.client import OUT, AsJson, Json, ask, client, print_json, read_text
from cli.employees import Paths

PICO_PER_USD: Final = 10**12

app = typer.Typer(no_args_is_help=True, help="What may be spent, and what is left.")


@app.command("apply")
def apply_budgets(paths: Paths, *, as_json: AsJson = False) -> None:
    """Put limits, change them, or take them away with ``limit_usd: null``."""
    with client() as opened:
        for path in paths:
            view = ask(
                opened,
                "PUT",
                "/v1/budgets",
                content=read_text(path).encode(),
                media_type="application/yaml",
            )
            if as_json:
                print_json(view)
            else:
                _show([view])


@app.command("list")
def list_budgets(*, cursor: str | None = None, as_json: AsJson = False) -> None:
    """List budgets: limit, spent, held and free, in USD."""
    params: Json = {"cursor": cursor}
    with client() as opened:
        page = ask(opened, "GET", "/v1/budgets", params=params)
    if as_json:
        print_json(page)
        return
    _show(page["budgets"])
    if page.get("next_cursor"):
        OUT.print(f"more: --cursor {page['next_cursor']}", markup=False)


def _show(views: list[Json]) -> None:
    table = Table(box=None, header_style="bold")
    table.add_column("scope", overflow="fold")
    for column in ("period", "kind"):
        table.add_column(column, no_wrap=True)
    for column in ("limit", "spent", "held", "free"):
        table.add_column(column, no_wrap=True, justify="right")
    table.add_column("resets", no_wrap=True)
    for view in views:
        budget = view["budget"]
        scope = budget["scope"]
        table.add_row(
            Text(f"{scope['kind']} {scope['id']}"),
            budget["period"],
            "hard" if budget.get("is_hard", True) else "soft",
            *(
                _usd(view[f"{name}_pico_usd"])
                for name in ("limit", "spent", "held", "free")
            ),
            view.get("resets_at") or "never",
        )
    OUT.print(table)


def _usd(pico_usd: int) -> str:
    return f"{Decimal(pico_usd) / PICO_PER_USD:,.6f}"
