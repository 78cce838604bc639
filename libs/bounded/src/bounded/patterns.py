"""
Regular expressions of strangers: what they may cost, before they are run.

The engine of ``re`` backtracks and cannot be stopped, so a pattern is judged by its
parse: in how many ways could it fail? Ways multiply along a row, add up over
branches, and grow by a power with every repeat of what itself varies.
"""

import importlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

_ENDLESS: Final = 10**12


def error_of(pattern: str, length: int, ways_max: int) -> str | None:
    """
    Tell why a pattern cannot be used; None when it can.

    Args:
        pattern: As its author wrote it.
        length: The text that it has to be affordable on, in characters.
        ways_max: In how many ways it may fail there.
    """
    try:
        found = ways(pattern, length)
    except (re.error, OverflowError, RecursionError) as error:
        return f"{pattern[:100]!r} is no regular expression: {error}"
    if found > ways_max:
        return (
            f"{pattern[:100]!r} may try too many ways to match: begin it with ^, give "
            "repeats a limit ({1,20}), and repeat no group that itself can vary"
        )
    return None


def ways(pattern: str, length: int) -> int:
    """
    Return in how many ways a search may fail on a text of this length, at most.

    Raises:
        re.error: It is no regular expression.
        OverflowError: It repeats beyond what the engine counts.
        RecursionError: It is nested too deeply.
    """
    parts = _parsed(pattern)
    is_anchored = len(parts) > 0 and str(parts[0][1]) == "AT_BEGINNING"
    return _in_row(parts, length) * (1 if is_anchored else length + 1)


def width(pattern: str) -> int:
    """Return how many characters a match has at least."""
    # Any: the parser is re's own and has no stubs.
    parsed: Any = _parsed(pattern)
    return int(parsed.getwidth()[0])


@lru_cache(maxsize=512)
def _parsed(pattern: str) -> Sequence[tuple[object, Any]]:
    # The parser of ``re`` itself: what it understands is what will be matched.
    parsed: Sequence[tuple[object, Any]] = importlib.import_module("re._parser").parse(
        pattern
    )
    return parsed


def _in_row(parts: Sequence[tuple[object, Any]], length: int) -> int:
    ways = 1
    for operation, argument in parts:
        ways = min(ways * _ways_of(str(operation), argument, length), _ENDLESS)
    return ways


def _ways_of(operation: str, argument: Any, length: int) -> int:
    match operation:
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, inner = argument
            most = min(int(most), length + 1)
            each = _in_row(inner, length)
            counts: int = max(most - int(least), 0) + 1
            return min(counts * each ** min(most, 64), _ENDLESS)
        case "SUBPATTERN":
            return _in_row(argument[3], length)
        case "ATOMIC_GROUP":
            return _in_row(argument, length)
        case "ASSERT" | "ASSERT_NOT":
            return _in_row(argument[1], length)
        case "BRANCH":
            return sum(_in_row(each, length) for each in argument[1])
        case "GROUPREF_EXISTS":
            _, yes, no = argument
            return _in_row(yes, length) + _in_row(no or (), length)
        case _:
            return 1
