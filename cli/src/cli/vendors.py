"""``dectl vendor``: list, check."""

from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from cli.client import OUT, AsJson, Json, ask, client, fail, print_json

app = typer.Typer(no_args_is_help=True, help="Who answers completions, and who can.")

COLOURS: Final = {"reachable": "green", "unproven": "yellow"}
"""What a check may find of a vendor that is well; anything else is red."""
Names = Annotated[
    list[str] | None, typer.Argument(help="Vendors; none means all that are usable")
]


@app.command("list")
def list_vendors(*, as_json: AsJson = False) -> None:
    """List the vendors: whose key they are called with, and how their models fare."""
    with client() as opened:
        page = ask(opened, "GET", "/v1/vendors")
    if as_json:
        print_json(page)
        return
    table = Table(box=None, header_style="bold")
    for column in ("vendor", "key", "model", "breaker", "first token", "can"):
        table.add_column(column, overflow="fold")
    for vendor in page["vendors"]:
        key = vendor["key"] if vendor["usable"] else f"no: {vendor.get('why_not')}"
        head = (vendor["name"], escape(key))
        for model in vendor["models"] or [{"name": "any"}]:
            table.add_row(*head, *_cells(model))
            head = ("", "")
    OUT.print(table)
    OUT.print(f"[dim]breakers and first tokens are {page['instance']}'s[/]")


@app.command("check")
def check_vendors(names: Names = None, *, as_json: AsJson = False) -> None:
    """
    Ask vendors for their models, which costs nothing and needs the key.

    Ends with 0 when each answers and none refuses its key, else with 1.
    """
    with client() as opened:
        page = ask(opened, "GET", "/v1/vendors")
        asked = names or [each["name"] for each in page["vendors"] if each["usable"]]
        known = {each["name"] for each in page["vendors"]}
        for name in asked:
            if name not in known:
                fail(f"no vendor {name!r} here: use one of {', '.join(sorted(known))}")
        if not asked:
            fail(
                "no vendor is usable here: see `dectl vendor list` for what each lacks"
            )
        found = [ask(opened, "POST", f"/v1/vendors/{name}/check") for name in asked]
    if as_json:
        print_json({"checks": found})
    else:
        _show(found)
    if any(each["reach"] not in COLOURS for each in found):
        raise typer.Exit(1)


def _cells(model: Json) -> tuple[str, str, str, str]:
    first_s = model.get("first_token_s")
    return (
        model["name"],
        model.get("breaker") or "-",
        "-" if first_s is None else f"{first_s:.2f} s",
        ", ".join(model.get("capabilities") or ["?"]),
    )


def _show(found: list[Json]) -> None:
    table = Table(box=None, header_style="bold")
    for column in ("vendor", "check", "status", "took", "detail"):
        table.add_column(column, overflow="fold")
    for each in found:
        reach, took_s = each["reach"], each.get("took_s")
        table.add_row(
            each["vendor"],
            f"[{COLOURS.get(reach, 'red')}]{reach}[/]",
            str(each.get("http_status") or "-"),
            "-" if took_s is None else f"{took_s:.2f} s",
            escape(each["detail"]),
        )
    OUT.print(table)
