"""
Which sums a document claims, and what a calculator makes of them.

The plan grows with the results: first one product per line, then the subtotal,
then rates on it, then the total. A step whose inputs are not known is not yet in
the plan, so nobody can skip the calculator. Amounts are rounded to the cent.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, DecimalException
from typing import Final

from sandbox.documents import Document

CENT: Final = Decimal("0.01")
EXPRESSION_CHARS_MAX: Final = 4000


@dataclass(frozen=True)
class Check:
    """
    One calculation.

    ``stated`` is what the document says (None: it does not), ``calculated`` the
    calculator's answer (None: not asked yet, or it failed).
    """

    label: str
    expression: str
    stated: Decimal | None
    calculated: Decimal | None
    is_total: bool = False

    @property
    def is_wrong(self) -> bool:
        """The document states something else than the calculator."""
        known = self.stated is not None and self.calculated is not None
        return known and self.stated != self.calculated


def plan_checks(
    document: Document, value_of: Callable[[str], Decimal | None]
) -> tuple[Check, ...]:
    """
    List the calculations that the document's line items call for.

    Args:
        document: Without line items there is nothing to check.
        value_of: The calculator's answer to an expression, None if there is none.

    """
    return tuple(_steps(document, value_of))


def _steps(
    document: Document, value_of: Callable[[str], Decimal | None]
) -> Iterator[Check]:
    def check(label: str, expression: str, stated: Decimal | None) -> Check:
        value = value_of(expression)
        value = value.quantize(CENT, ROUND_HALF_UP) if value is not None else None
        return Check(label, expression, stated, value, label == document.total_label)

    def add(label: str, parts: list[Check], stated: Decimal | None) -> Check:
        return check(label, " + ".join(str(part.calculated) for part in parts), stated)

    lines = [
        check(item.label, f"{item.quantity} * {item.unit_price}", item.stated)
        for item in document.items
    ]
    yield from lines
    if not lines or any(line.calculated is None for line in lines):
        return
    if not document.charges:
        yield add(document.total_label, lines, document.total or document.subtotal)
        return
    subtotal = add("Subtotal", lines, document.subtotal)
    yield subtotal
    if subtotal.calculated is None:
        return
    charges = [
        Check(charge.label, "", charge.stated, charge.stated)
        if charge.rate is None
        else check(
            charge.label,
            f"{subtotal.calculated} * {charge.rate} / 100",
            charge.stated,
        )
        for charge in document.charges
    ]
    yield from (charge for charge in charges if charge.expression)
    if all(charge.calculated is not None for charge in charges):
        yield add(document.total_label, [subtotal, *charges], document.total)


def evaluate(expression: str) -> Decimal | None:
    """Work out + - * / and brackets; None when it is anything else."""
    if len(expression) > EXPRESSION_CHARS_MAX:
        return None
    try:
        return _value(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ValueError, DecimalException, RecursionError):
        return None


def _value(node: ast.expr) -> Decimal:
    match node:
        case ast.Constant(value=int() | float() as number):
            return Decimal(str(number))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _value(left) + _value(right)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _value(left) - _value(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _value(left) * _value(right)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _value(left) / _value(right)
        case _:
            message = f"not arithmetic: {ast.dump(node)[:80]}"
            raise ValueError(message)
