"""The calculator: exact where an answer has an end, honest where it has none."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime.domain.calculator import CalculationRefused, calculate

NUMBERS = st.decimals(
    min_value=0, max_value=1_000_000, places=3, allow_nan=False, allow_infinity=False
)
OPERATORS = st.sampled_from(["+", "-", "*", "/"])
EXPRESSIONS = st.recursive(
    NUMBERS.map(str),
    lambda inner: st.one_of(
        st.tuples(inner, OPERATORS, inner).map(" ".join),
        # A sign after % is refused: 19% - 5 means per cent, not a remainder.
        st.tuples(inner, inner).map("{0[0]} % ({0[1]})".format),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"-({text})"),
        st.tuples(inner, st.integers(-3, 3)).map("({0[0]})**{0[1]}".format),
    ),
    max_leaves=12,
)


def _oracle(expression: str) -> Fraction:
    """Let Python itself work it out on fractions."""
    text = re.sub(r"(?<!\*\*)(?<!\*\*-)\b\d+\.\d+", r"F('\g<0>')", expression)
    value: Fraction = eval(text, {"F": Fraction})  # noqa: S307 -- our own expressions
    return Fraction(value)


@given(EXPRESSIONS)
def test_value_is_python_s_on_fractions(expression: str) -> None:
    """Precedence, signs and remainders are Python's, and nothing is rounded."""
    try:
        expected = _oracle(expression)
    except ZeroDivisionError:
        with pytest.raises(CalculationRefused, match="division by zero"):
            calculate(expression)
        return
    try:
        found = calculate(expression)
    except CalculationRefused as refusal:
        assert "too large" in str(refusal)  # noqa: PT017 -- the only reason allowed
        return
    head, colon, digits = found.rpartition(": ")
    if not colon:
        assert Fraction(digits) == expected
        return
    assert head == "rounded to 30 significant digits"
    assert abs(Fraction(digits) - expected) <= abs(expected) * Fraction(1, 10**29)


@given(st.text(alphabet="0123456789.,+-*/%() ^eE×=_'x", max_size=60))
def test_any_text_is_answered_or_refused(text: str) -> None:
    """Whatever a model writes, it gets a value or a reason."""
    try:
        assert calculate(text)
    except CalculationRefused as refusal:
        assert str(refusal)  # noqa: PT017 -- one of the two


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("6 * 48.90", "293.4"),
        ("0.1 + 0.2", "0.3"),
        ("1 / 3 * 3", "1"),
        ("-2 ** 2", "-4"),
        ("2 ** -2", "0.25"),
        ("2 ** 3 ** 2", "512"),
        ("-7 % 3", "2"),
        ("-(.5 + 1.)", "-1.5"),
        ("(-1) ** 99999999999", "-1"),
        ("1 / 3", "rounded to 30 significant digits: 0." + "3" * 30),
    ],
)
def test_examples(expression: str, value: str) -> None:
    """What people would expect of a good calculator."""
    assert calculate(expression) == value


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("1,234.50 + 1", "thousands separators"),
        ("1 234 + 1", "thousands separators"),
        ("12,5 + 1", "comma"),
        ("200 * 19%", "per cent"),
        ("19% * 200", "per cent"),
        ("19% - 5", "per cent"),
        ("2^3", r"write \*\*"),
        ("3 × 4", r"write \*"),
        ("1 / (2 - 2)", "division by zero"),
        ("9 ** 9 ** 9", "too large"),
        ("2 ** 0.5", "whole number"),
        ("(1 + 2", "not closed"),
        ("1 +", "ends where"),
        ("", "ends where"),
        ("__import__('os')", "cannot read '_'"),
        ("2 3", "operator"),
        ("(" * 60 + "1" + ")" * 60, "levels"),
        ("1+" * 3000 + "1", "longer than"),
    ],
)
def test_refusals_say_what_to_do(expression: str, reason: str) -> None:
    """A model that is told why can do better."""
    with pytest.raises(CalculationRefused, match=reason):
        calculate(expression)
