"""What the sandbox reads in a document."""

from decimal import Decimal

import pytest

from sandbox.facts import evaluate, parse_number, read


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1,234.50", "1234.50"),
        ("1.234,50", "1234.50"),
        ("12,5", "12.5"),
        ("1,234", "1234"),
        ("-3.20", "-3.20"),
        ("42", "42"),
    ],
)
def test_numbers_are_read_in_both_notations(written: str, meant: str) -> None:
    """English and continental separators mean the same number."""
    assert parse_number(written) == Decimal(meant)


@pytest.mark.parametrize(
    "line",
    [
        "- Widget: 3 x 12.50 = 37.50",
        "Widget    3    12.50    37.50",
        "Widget 3 12.50 37.50",
        "| 1 | Widget | 3 pcs | EUR 12.50 | EUR 37.50 |",
        "1\tWidget\t3\t€12.50\t€37.50",
    ],
)
def test_a_line_item_is_read_in_every_form(line: str) -> None:
    """Quantity, unit price and amount come out whatever the layout."""
    (item,) = read([line], evaluate).claims
    assert (item.label, item.expression) == ("Widget", "3 * 12.50")
    assert item.stated == item.calculated == Decimal("37.50")


@pytest.mark.parametrize(
    "line",
    [
        "Date: Tue, 3 November 2026 09:14",
        "IBAN DE12 5001 0517 5407",
        "Payment is due by 30 November 2026",
        "Invoice number: 4711",
    ],
)
def test_other_numbers_are_no_items(line: str) -> None:
    """Dates, accounts and numbers of documents are not multiplied."""
    assert read([line], evaluate).claims == []


def test_totals_sum_up_what_stands_above() -> None:
    """A subtotal checks the items, the total also charges; a page number is neither."""
    text = """
        A  2  50.00  100.00
        Subtotal     100.00
        VAT 20 %:     20.00
        Page: 2
        Total due EUR 120.00
    """
    facts = read([text], evaluate)
    sums = [claim.expression for claim in facts.claims if claim.kind == "total"]
    assert sums == ["100.00", "100.00 + 20.00"]
    assert facts.wrong == []
    assert facts.labels["Stated total"] == "120.00"


def test_each_document_has_its_own_total() -> None:
    """Two invoices that are read together are not added up."""
    text = "A  1  {0}.00  {0}.00\nTotal: {0}.00"
    assert read([text.format(3), text.format(4)], evaluate).wrong == []


def test_a_letter_gives_labels_and_claims(letter: str) -> None:
    """A realistic letter is taken apart."""
    facts = read([letter], evaluate)
    assert facts.labels["Invoice number"] == "4711"
    assert facts.labels["From"] == "Nordlicht Office Supplies GmbH"
    assert facts.labels["Currency"] == "EUR"
    assert [claim.label for claim in facts.wrong] == [
        'Desk lamp "Fjord", brushed',
        "Total due",
    ]
