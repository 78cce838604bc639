"""``dectl trigger``: apply, list."""

import typer
from rich.table import Table

from cli.client import OUT, AsJson, ask, client, print_json, read_text
from cli.employees import DryRun, Paths

app = typer.Typer(no_args_is_help=True, help="Which events start which tasks.")


@app.command("apply")
def apply_triggers(
    paths: Paths, *, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Create or replace triggers."""
    with client() as opened:
        for path in paths:
            version = ask(
                opened,
                "POST",
                "/v1/triggers",
                params={"dry_run": dry_run},
                content=read_text(path).encode(),
                media_type="application/yaml",
            )
            if as_json:
                print_json(version)
            else:
                OUT.print(f"{version['trigger']['name']} version {version['version']}")


@app.command("list")
def list_triggers(*, as_json: AsJson = False) -> None:
    """List triggers."""
    with client() as opened:
        page = ask(opened, "GET", "/v1/triggers")
    if as_json:
        print_json(page)
        return
    table = Table(box=None, header_style="bold")
    for column in ("trigger", "version", "events", "employee"):
        table.add_column(column)
    for each in page["triggers"]:
        trigger = each["trigger"]
        table.add_row(
            trigger["name"],
            str(each["version"]),
            trigger["subject"],
            trigger["task"]["employee"],
        )
    OUT.print(table)
