"""A stranger's regular expression is judged before it is run."""

import pytest

from bounded import patterns
from bounded.schema import TooCostly, first_violation


@pytest.mark.parametrize(
    ("pattern", "ways"),
    [
        ("abc", 11),
        ("^abc", 1),
        ("^a{1,4}", 4),
        ("^(ax|by|cz)", 3),
        ("^a?b?", 4),
        ("^a*", 12),
    ],
)
def test_ways_are_counted(pattern: str, ways: int) -> None:
    """Rows multiply, branches add, an unanchored search tries every place."""
    assert patterns.ways(pattern, 10) == ways


@pytest.mark.parametrize("pattern", ["(", "(a+)+$", ".*.*.*=", "a{99999999999}"])
def test_a_pattern_without_bound_is_refused(pattern: str) -> None:
    """The error quotes the pattern; what it costs is never found out by running it."""
    error = patterns.error_of(pattern, 1_000, 50_000)
    assert error is not None
    assert repr(pattern) in error


def test_the_least_width_is_known() -> None:
    """Optional pieces do not count."""
    assert patterns.width("ab{2,3}c?") == 3


def test_references_that_fan_out_end_soon() -> None:
    """Thirteen levels of two are given up, not waited for."""
    levels = {
        f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(30)
    }
    schema = {"$defs": {**levels, "l30": {}}, "$ref": "#/$defs/l0"}
    with pytest.raises(TooCostly):
        first_violation(schema, 1)  # pyright: ignore[reportArgumentType]
