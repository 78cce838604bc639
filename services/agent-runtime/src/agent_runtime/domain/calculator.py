"""
Arithmetic for models that cannot: exact, bounded, and without ``eval``.

Numbers are fractions, so that ``0.1 + 0.2`` is ``0.3`` and ``1 / 3 * 3`` is ``1``.
Only the last step, writing the result down, may round, and then it says so.

    sum     := product (("+" | "-") product)*
    product := signed (("*" | "/" | "%") signed)*
    signed  := ("+" | "-") signed | power
    power   := atom ("**" signed)?          right to left; -2 ** 2 is -4
    atom    := number | "(" sum ")"
"""

import re
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import Final

EXPRESSION_CHARS_MAX: Final = 4_000
DEPTH_MAX: Final = 50
BITS_MAX: Final = 4_096
EXACT_CHARS_MAX: Final = 400
ROUNDED_DIGITS: Final = 30

_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d*)?|\.\d+)|(\*\*|[-+*/%()]))", re.ASCII)
_THOUSANDS = re.compile(r"\d[,_' ]\d{3}(?!\d)")
_HINTS: Final = {
    ",": "write 1234.5 without a comma; thousands separators are not allowed",
    "_": "thousands separators are not allowed",
    "'": "thousands separators are not allowed",
    "^": "write ** for powers",
    "×": "write * to multiply",
    "÷": "write / to divide",
    "−": "write - to subtract",
    "=": "give one side only, without =",
}
_ROUNDING: Final = Context(prec=ROUNDED_DIGITS)


class CalculationRefused(ValueError):
    """The expression cannot be worked out; the text tells the model why."""


def calculate(expression: str) -> str:
    """
    Work out an expression of ``+ - * / ** % ( )`` on decimal numbers.

    Returns:
        The exact value in plain digits; ``rounded to 30 significant digits: …``
        when it has no end or no reasonable length. ``%`` is the remainder, with the
        divisor's sign.

    Raises:
        CalculationRefused: It is no such expression, or too large.
    """
    if len(expression) > EXPRESSION_CHARS_MAX:
        message = f"the expression is longer than {EXPRESSION_CHARS_MAX} characters"
        raise CalculationRefused(message)
    return written(_Reader(_tokens(expression)).whole())


def written(value: Fraction) -> str:
    """Write a value in plain decimal digits, exactly where that has an end."""
    exact = _exactly(value)
    if exact is not None and len(exact) <= EXACT_CHARS_MAX:
        return exact
    numerator, denominator = Decimal(value.numerator), Decimal(value.denominator)
    rounded = _ROUNDING.divide(numerator, denominator)
    return f"rounded to {ROUNDED_DIGITS} significant digits: {_plain(rounded)}"


def _exactly(value: Fraction) -> str | None:
    rest, places = value.denominator, 0
    for prime in (2, 5):
        count = 0
        while rest % prime == 0:
            rest, count = rest // prime, count + 1
        places = max(places, count)
    if rest != 1 or places > EXACT_CHARS_MAX:
        return None
    digits = str(abs(value.numerator) * 10**places // value.denominator)
    digits = digits.rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    if places == 0:
        return sign + digits
    return f"{sign}{digits[:-places]}.{digits[-places:]}"


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    # A value of a thousand digits is clearer with an exponent.
    return text if len(text) <= EXACT_CHARS_MAX else f"{value:E}"


@dataclass(frozen=True)
class _Token:
    text: str
    position: int

    @property
    def is_number(self) -> bool:
        return self.text[0].isdigit() or self.text[0] == "."


def _tokens(expression: str) -> list[_Token]:
    separated = _THOUSANDS.search(expression)
    if separated:
        message = (
            f"cannot read {separated[0]!r} at character {separated.start() + 1}: "
            "thousands separators are not allowed, write 1234.5"
        )
        raise CalculationRefused(message)
    found: list[_Token] = []
    position, end = 0, len(expression.rstrip())
    while position < end:
        match = _TOKEN.match(expression, position)
        if match is None:
            raise _unreadable(expression, position)
        text = match[1] or match[2]
        found.append(_Token(text, match.end() - len(text) + 1))
        position = match.end()
    return found


def _unreadable(expression: str, position: int) -> CalculationRefused:
    rest = expression[position:].lstrip()
    at = len(expression) - len(rest) + 1
    hint = _HINTS.get(rest[0], "use digits, a decimal point and + - * / ** % ( ) only")
    return CalculationRefused(f"cannot read {rest[0]!r} at character {at}: {hint}")


class _Reader:
    """Recursive descent over the tokens; see the grammar at the top."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def whole(self) -> Fraction:
        value = self._sum()
        if self._next < len(self._tokens):
            token = self._tokens[self._next]
            message = (
                f"expected an operator before {token.text!r} at character "
                f"{token.position}"
            )
            raise CalculationRefused(message)
        return value

    def _sum(self) -> Fraction:
        value = self._product()
        while operator := self._take("+", "-"):
            right = self._product()
            value = _bounded(value + right if operator == "+" else value - right)
        return value

    def _product(self) -> Fraction:
        value = self._signed()
        while operator := self._take("*", "/", "%"):
            value = _bounded(_multiplied(operator, value, self._operand(operator)))
        return value

    def _operand(self, operator: str) -> Fraction:
        follows = self._peek()
        if operator == "%" and follows in ("", ")", "+", "-", "*", "/", "%", "**"):
            message = "% is the remainder of a division; for per cent write / 100"
            raise CalculationRefused(message)
        return self._signed()

    def _signed(self) -> Fraction:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            message = f"more than {DEPTH_MAX} levels of brackets and signs"
            raise CalculationRefused(message)
        sign = self._take("+", "-")
        value = self._signed() if sign else self._power()
        self._depth -= 1
        return -value if sign == "-" else value

    def _power(self) -> Fraction:
        base = self._atom()
        return _raised(base, self._signed()) if self._take("**") else base

    def _atom(self) -> Fraction:
        if self._take("("):
            value = self._sum()
            if not self._take(")"):
                raise CalculationRefused("a bracket is not closed: add )")
            return value
        text = self._peek()
        if not text:
            raise CalculationRefused("the expression ends where a number is expected")
        token = self._tokens[self._next]
        if not token.is_number:
            message = f"expected a number, not {text!r}, at character {token.position}"
            raise CalculationRefused(message)
        self._next += 1
        return _bounded(Fraction(text))

    def _peek(self) -> str:
        at_end = self._next >= len(self._tokens)
        return "" if at_end else self._tokens[self._next].text

    def _take(self, *texts: str) -> str:
        found = self._peek()
        if found not in texts:
            return ""
        self._next += 1
        return found


def _multiplied(operator: str, left: Fraction, right: Fraction) -> Fraction:
    if operator == "*":
        return left * right
    if right == 0:
        raise CalculationRefused("division by zero")
    return left / right if operator == "/" else left % right


def _raised(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise CalculationRefused("the exponent of ** must be a whole number")
    if base == 0 and exponent < 0:
        raise CalculationRefused("division by zero")
    # Estimate before computing: 9 ** 9 ** 9 must not be tried.
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if base not in (0, 1, -1) and bits * abs(exponent.numerator) > BITS_MAX:
        raise _too_large()
    if abs(exponent.numerator) > BITS_MAX:
        # Only 0, 1 and -1 come here, and for them the exponent's parity decides.
        exponent = Fraction(2 + exponent.numerator % 2)
    return _bounded(base**exponent.numerator)


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > BITS_MAX:
        raise _too_large()
    return value


def _too_large() -> CalculationRefused:
    return CalculationRefused("a number becomes too large for this calculator")
