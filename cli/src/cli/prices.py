"""``dectl prices``: import, diff, approve, show: a folder that billing-meter reads."""

import getpass
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
import yaml
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from cli.client import CHECKOUT, OUT, fail, read_bytes, read_text
from contracts.prices import Price, PriceBook
from determinism import SystemClock
from faults import PermanentFault
from pricing import read_book
from pricing.approval import (
    APPROVALS,
    Approval,
    Change,
    book_file,
    changes,
    parse_approvals,
    parse_book,
    with_rows,
)
from pricing.book import PriceDocument

SEED: Final = CHECKOUT / "services" / "billing-meter" / "prices.yaml"
SHORT: Final = 12
ROWS_SHOWN: Final = 40
PICO_PER_MILLIONTH: Final = 10**6

app = typer.Typer(
    no_args_is_help=True, help="What vendors' calls cost, and since when."
)

Folder = Annotated[
    Path | None,
    typer.Option("--folder", help="DE_PRICE_FOLDER, or prices/ of the state folder"),
]
Digest = Annotated[str, typer.Argument(help="the first characters of a book's digest")]


@app.command("import")
def import_prices(
    *,
    document: Annotated[
        Path | None,
        typer.Option("--file", help="rows to add, instead of genai-prices' lists"),
    ] = None,
    folder: Folder = None,
) -> None:
    """Propose a book: the pinned genai-prices' lists, or rows of a document."""
    place = _place(folder)
    current = _in_force(place)
    if document is not None:
        read = _read_document(document)
        book = with_rows(current, read.prices, read.version)
    else:
        # Here, since nothing else may pay for loading it.
        from pricing.genai import import_with_notes  # noqa: PLC0415 -- 250 ms

        book, notes = import_with_notes(current)
        for text in notes.skipped:
            OUT.print(f"left out: {text}", markup=False, highlight=False)
    place.mkdir(parents=True, exist_ok=True)
    (place / book_file(book.digest)).write_bytes(book.encode())
    _count(list(changes(current, book)))
    OUT.print(f"proposed {book.digest}", markup=False, highlight=False)
    OUT.print(f"look: dectl prices diff {book.digest[:SHORT]}", highlight=False)


@app.command("diff")
def diff_prices(digest: Digest, *, folder: Folder = None) -> None:
    """Show what a proposed book would change."""
    place = _place(folder)
    found = list(changes(_in_force(place), _find(place, digest)))
    table = Table(box=None, header_style="bold")
    for column in ("", "vendor/model", "variant", "from", "before", "after"):
        table.add_column(column, overflow="fold")
    for each in found[:ROWS_SHOWN]:
        vendor, model, *_ = each.key
        row = each.after or each.before
        table.add_row(
            _kind(each),
            Text(f"{vendor}/{model}"),
            Text(_variant(row)),
            each.key[-1][:10],
            _rates(each.before),
            _rates(each.after),
        )
    OUT.print(table)
    if len(found) > ROWS_SHOWN:
        OUT.print(f"and {len(found) - ROWS_SHOWN} more")
    _count(found)


@app.command("approve")
def approve_prices(
    digest: Digest,
    *,
    by: Annotated[str | None, typer.Option(help="who approves; else you")] = None,
    folder: Folder = None,
) -> None:
    """Let a proposed book take force; billing-meter reads it within 15 seconds."""
    place = _place(folder)
    book, before = _find(place, digest), _approvals(place)
    if before and before[-1].digest == book.digest:
        fail(f"{book.digest[:SHORT]} is in force already")
    approval = Approval(
        digest=book.digest,
        version=book.version,
        approved_by=by or getpass.getuser(),
        approved_at=SystemClock().now(),
        replaces=before[-1].digest if before else None,
    )
    line = approval.model_dump_json(exclude_none=True)
    with (place / APPROVALS).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    OUT.print(f"{book.version} is in force: {book.digest}", highlight=False)


@app.command("show")
def show_prices(
    model: Annotated[str | None, typer.Argument(help="part of vendor/model")] = None,
    *,
    folder: Folder = None,
) -> None:
    """Show who approved which book when, and rows of the one in force."""
    place = _place(folder)
    for each in _approvals(place):
        OUT.print(
            f"{each.approved_at:%Y-%m-%d %H:%M:%S}  {each.digest[:SHORT]}  "
            f"{each.version}, approved by {each.approved_by}",
            markup=False,
            highlight=False,
        )
    book = _in_force(place)
    OUT.print(f"in force: {book.version}, {len(book.prices)} rows, {book.digest}")
    if model is None:
        return
    table = Table(box=None, header_style="bold")
    for column in ("vendor/model", "variant", "from", "USD per million tokens"):
        table.add_column(column, overflow="fold")
    found = [each for each in book.prices if model in f"{each.vendor}/{each.model}"]
    for row in found[:ROWS_SHOWN]:
        name, begins = (
            f"{row.vendor}/{row.model}",
            f"{row.effective_from:%Y-%m-%d %H:%M}",
        )
        table.add_row(Text(name), Text(_variant(row)), begins, _rates(row))
    OUT.print(table)


def _place(folder: Path | None) -> Path:
    if folder is not None:
        return folder
    if named := os.environ.get("DE_PRICE_FOLDER"):
        return Path(named)
    return Path(os.environ.get("DE_STATE_DIR") or CHECKOUT / ".state") / "prices"


def _approvals(place: Path) -> tuple[Approval, ...]:
    path = place / APPROVALS
    try:
        return parse_approvals(read_text(path)) if path.exists() else ()
    except PermanentFault as fault:
        fail(fault.detail)


def _in_force(place: Path) -> PriceBook:
    approvals = _approvals(place)
    return _find(place, approvals[-1].digest) if approvals else _read_document(SEED)


def _find(place: Path, digest: str) -> PriceBook:
    found = sorted(place.glob(f"{digest}*.json")) if digest.isalnum() else []
    if len(found) != 1:
        fail(
            f"{len(found)} books in {place} begin with {digest!r}: dectl prices import"
        )
    try:
        return parse_book(read_bytes(found[0]), found[0].stem)
    except PermanentFault as fault:
        fail(fault.detail)


def _read_document(path: Path) -> PriceBook:
    try:
        return read_book(PriceDocument.model_validate(yaml.safe_load(read_text(path))))
    except (ValidationError, yaml.YAMLError) as cause:
        fail(f"{path} is no price document: {cause}")
    except PermanentFault as fault:
        fail(f"{path}: {fault.detail}")


def _count(found: Sequence[Change]) -> None:
    kinds = Counter(_kind(each) for each in found)
    told = [f"{kinds[kind]} {kind}" for kind in ("added", "changed", "gone")]
    OUT.print(", ".join(told), highlight=False)


def _kind(change: Change) -> str:
    if change.before is None:
        return "added"
    return "gone" if change.after is None else "changed"


def _variant(row: Price | None) -> str:
    if row is None:
        return ""
    named = [row.service_tier or "", "batch" if row.batch else "", row.tenant or ""]
    return " ".join(filter(None, named))


def _rates(row: Price | None) -> str:
    """Return input and output of each tier, in USD per million tokens."""
    if row is None:
        return "-"
    told = [
        f"{_usd(tier.prices.input_tokens)} / {_usd(tier.prices.output_tokens)}"
        + (f" above {tier.input_tokens_above}" if tier.input_tokens_above else "")
        for tier in row.tiers
    ]
    hours = [
        f"{window.from_minute // 60:02}:{window.from_minute % 60:02}-"
        f"{window.until_minute // 60:02}:{window.until_minute % 60:02} UTC "
        f"{_usd(window.tiers[0].prices.input_tokens)} / "
        f"{_usd(window.tiers[0].prices.output_tokens)}"
        for window in row.windows
    ]
    return "; ".join([*told, *hours])


def _usd(pico_usd: int) -> str:
    whole, rest = divmod(pico_usd, PICO_PER_MILLIONTH)
    return f"{whole}.{rest:06}".rstrip("0").rstrip(".")
