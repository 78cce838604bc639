"""No float touches money: neither a literal, nor the type, nor a true division."""

import ast
from collections.abc import Iterator
from typing import Final

import pytest

MONEY: Final = (
    "libs/pricing/src/",
    "services/billing-meter/src/billing_meter/domain/",
    "services/billing-meter/src/billing_meter/handlers/",
    "services/billing-meter/src/billing_meter/adapters/",
    "libs/contracts/src/contracts/money.py",
    "libs/contracts/src/contracts/prices.py",
    "libs/contracts/src/contracts/ledger.py",
    "libs/contracts/src/contracts/budgets.py",
)
SECONDS: Final = ("_S", "_s")
"""What times are named by; they may have fractions."""
DECIMALS: Final = "libs/contracts/src/contracts/money.py"
"""Where dollars are made for people, of ``Decimal``."""


def floats(path: str, text: str) -> list[str]:
    """Return a violation for each float in a file of money."""
    return [
        f"{path}:{line}: {what}: count money in whole pico-USD"
        for line, what in _floats(ast.parse(text), is_decimal=path == DECIMALS)
    ]


def _floats(tree: ast.AST, *, is_decimal: bool) -> Iterator[tuple[int, str]]:
    for node in ast.iter_child_nodes(tree):
        match node:
            case (
                ast.AnnAssign(target=ast.Name(id=name))
                | ast.Assign(targets=[ast.Name(id=name)])
                | ast.keyword(arg=str(name))
            ) if name.endswith(SECONDS):
                continue
            case ast.Constant(value=float()):
                yield node.lineno, f"a float, {node.value}"
            case ast.Name(id="float"):
                yield node.lineno, "the type float"
            case ast.BinOp(op=ast.Div()) if not is_decimal:
                yield node.lineno, "a true division"
            case _:
                pass
        yield from _floats(node, is_decimal=is_decimal)


@pytest.mark.parametrize(
    "text",
    ["cost = 0.15 * 7", "cost = float(price)", "cost = total / 3", "LIMIT: int = 1e6"],
)
def test_a_float_is_found(text: str) -> None:
    """However it gets in."""
    assert floats("libs/pricing/src/pricing/x.py", text)


@pytest.mark.parametrize("text", ["LOOK_S: Final = 0.2", "cost = total // 3"])
def test_a_time_may_have_fractions(text: str) -> None:
    """Seconds are no money."""
    assert floats("libs/pricing/src/pricing/x.py", text) == []


def test_no_float_touches_money(python: dict[str, str]) -> None:
    """0.1 + 0.2 is not 0.3, and a ledger has to sum to zero."""
    found = [
        violation
        for path, text in python.items()
        if path.startswith(MONEY)
        for violation in floats(path, text)
    ]
    assert found == []
