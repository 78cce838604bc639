"""``dectl employee``: apply, list."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.client import OUT, AsJson, ask, client, print_json, read_text

app = typer.Typer(no_args_is_help=True, help="The documents that employees are.")

Paths = Annotated[list[Path], typer.Argument(help="YAML or JSON documents")]
DryRun = Annotated[bool, typer.Option(help="Only check them")]


@app.command("apply")
def apply_employees(
    paths: Paths, *, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Create a version of each; the same document changes nothing."""
    with client() as opened:
        for path in paths:
            version = ask(
                opened,
                "POST",
                "/v1/employees",
                params={"dry_run": dry_run},
                content=read_text(path).encode(),
                media_type="application/yaml",
            )
            if as_json:
                print_json(version)
            else:
                OUT.print(f"{version['employee']['name']} version {version['version']}")


@app.command("list")
def list_employees(*, as_json: AsJson = False) -> None:
    """List employees, their newest versions."""
    with client() as opened:
        page = ask(opened, "GET", "/v1/employees")
    if as_json:
        print_json(page)
        return
    table = Table(box=None, header_style="bold")
    for column in ("employee", "version", "role", "model", "tools"):
        table.add_column(column)
    for each in page["employees"]:
        document = each["employee"]
        table.add_row(
            document["name"],
            str(each["version"]),
            escape(document["role"]),
            document.get("model", {}).get("model", ""),
            ", ".join(document.get("tools", ())),
        )
    OUT.print(table)
