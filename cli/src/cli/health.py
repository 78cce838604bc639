"""``dectl health``: is every service ready."""

from typing import Final

import httpx
import typer
from rich.markup import escape
from rich.table import Table

from cli.client import OUT, AsJson, Json, fail, find_target, print_json

LIMIT_S: Final = 3.0


def show_health(*, as_json: AsJson = False) -> None:
    """Ask every service of the embedded platform whether it is ready."""
    target = find_target()
    faces: dict[str, str] = target.endpoints.get("metrics", {})
    if not faces:
        fail("no faces known: this needs the platform that ./just up started")
    found = {
        name: _ready(url.removesuffix("/metrics") + "/ready")
        for name, url in faces.items()
    }
    if as_json:
        print_json(found)
    else:
        _show(found)
    if any(each["status"] != "ready" for each in found.values()):
        raise typer.Exit(1)


def _show(found: dict[str, Json]) -> None:
    table = Table(box=None, header_style="bold")
    for column in ("service", "status", "checks"):
        table.add_column(column)
    for name, each in found.items():
        colour = "green" if each["status"] == "ready" else "red"
        checks = ", ".join(
            f"{check} {state['status']} {state.get('detail', '')}".strip()
            for check, state in each.get("checks", {}).items()
        )
        table.add_row(name, f"[{colour}]{each['status']}[/]", escape(checks))
    OUT.print(table)


def _ready(url: str) -> Json:
    try:
        found: Json = httpx.get(url, timeout=LIMIT_S).json()
    except (httpx.TransportError, ValueError) as cause:
        return {"status": "unreachable", "checks": {}, "detail": str(cause)}
    return found
