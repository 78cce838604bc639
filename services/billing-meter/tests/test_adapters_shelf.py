"""Approved price books take force, and stay to be asked for."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from billing_world import NOW, batch, delivery, record

from billing_meter import handlers
from billing_meter.adapters.shelf import FolderShelf
from billing_meter.ports import Deps
from contracts.ledger import LedgerLine, ListLedger
from contracts.prices import GetPrices, Price, PriceBook
from messaging.refusals import Refused
from pricing.approval import APPROVALS, Approval, book_file, changes, with_rows


def dearer(book: PriceBook, version: str, factor: int) -> PriceBook:
    """Return a book whose small sandbox model costs more from NOW on."""
    (row,) = (each for each in book.prices if each.model == "sandbox-small")
    (tier,) = row.tiers
    parts = {name: pico * factor for name, pico in tier.prices}
    tiers = (tier.model_copy(update={"prices": tier.prices.model_copy(update=parts)}),)
    update = {"tiers": tiers, "effective_from": NOW}
    return with_rows(book, (row.model_copy(update=update),), version)


def approve(folder: Path, book: PriceBook) -> None:
    """Do what the command line does."""
    (folder / book_file(book.digest)).write_bytes(book.encode())
    approval = Approval(
        digest=book.digest, version=book.version, approved_by="ada", approved_at=NOW
    )
    with (folder / APPROVALS).open("a") as file:
        file.write(approval.model_dump_json(exclude_none=True) + "\n")


async def lines(deps: Deps) -> Sequence[LedgerLine]:
    """Return the ledger, by attempt."""
    page = await handlers.ledger(ListLedger(tenant="acme"), deps)
    return sorted(page.lines, key=lambda line: line.attempt_id)


async def test_calls_before_and_after_a_change_cost_what_each_book_says(
    deps: Deps, tmp_path: Path
) -> None:
    """The price at the call's own instant, under the book that was in force."""
    seed = deps.shelf.book
    deps = replace(deps, shelf=FolderShelf(seed, tmp_path))
    before = record("attempt_1", occurred_at=NOW - timedelta(seconds=1))
    await handlers.meter_usage(batch(before), delivery("one"), deps)
    book = dearer(seed, "dearer", 2)
    approve(tmp_path, book)
    deps.shelf.refresh()
    late = record("attempt_2", occurred_at=NOW - timedelta(seconds=1))
    after = record("attempt_3", occurred_at=NOW)
    await handlers.meter_usage(batch(late, after), delivery("two"), deps)
    first, second, third = await lines(deps)
    assert first.pico_usd == second.pico_usd > 0
    assert third.pico_usd == 2 * first.pico_usd
    assert [each.price_digest for each in (first, second, third)] == [
        seed.digest,
        book.digest,
        book.digest,
    ]
    for digest, of in ((None, book), (book.digest, book), (seed.digest, seed)):
        assert await handlers.prices(GetPrices(digest=digest), deps) == of
    with pytest.raises(Refused):
        await handlers.prices(GetPrices(digest="ab" * 32), deps)


def test_a_proposal_is_not_in_force(deps: Deps, tmp_path: Path) -> None:
    """A file alone changes nothing, and is given to nobody."""
    shelf = FolderShelf(deps.shelf.book, tmp_path)
    book = dearer(deps.shelf.book, "dearer", 2)
    (tmp_path / book_file(book.digest)).write_bytes(book.encode())
    shelf.refresh()
    assert shelf.book == deps.shelf.book
    assert shelf.find(book.digest) is None


@pytest.mark.parametrize("damage", ["tampered", "missing", "no line"])
def test_a_book_that_is_not_what_was_approved_is_not_taken(
    deps: Deps, tmp_path: Path, damage: str
) -> None:
    """The last good one holds until somebody has put it right."""
    good, bad = (dearer(deps.shelf.book, f"x{n}", n) for n in (2, 3))
    approve(tmp_path, good)
    shelf = FolderShelf(deps.shelf.book, tmp_path)
    assert shelf.book.digest == good.digest
    approve(tmp_path, bad)
    path = tmp_path / book_file(bad.digest)
    if damage == "tampered":
        path.write_text(path.read_text().replace("450000", "450001"))
    elif damage == "missing":
        path.unlink()
    else:
        with (tmp_path / APPROVALS).open("a") as file:
            file.write("{}\n")
    shelf.refresh()
    assert shelf.book.digest == good.digest
    assert shelf.table.digest == good.digest


def test_changes_name_every_row_that_differs(deps: Deps) -> None:
    """What is approved is what was shown."""
    seed = deps.shelf.book
    book = dearer(seed, "dearer", 2)
    (added,) = changes(seed, book)
    assert (added.before, added.key[:2]) == (None, ("sandbox-openai", "sandbox-small"))
    (changed,) = changes(book, dearer(seed, "dearest", 3))
    assert isinstance(changed.before, Price)
    assert isinstance(changed.after, Price)
    (gone,) = changes(book, seed)
    assert gone.after is None
