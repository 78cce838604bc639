"""
Which JSON values every reader on the way can hold.

Parsers differ where JSON is vague: some turn an integer above 64 bits into a float,
most write NaN as null, each gives up at another depth. What is accepted must reach
the employee as it came, so what one of them would change is refused at the door.
"""

from math import isfinite
from typing import Final, cast

DEPTH_MAX: Final = 64
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**64 - 1


def excess_of(value: object) -> str | None:
    """Say what is too much in a decoded JSON value; None when it is fine."""
    level, depth = [value], 0
    while level:
        if any(_is_number_in_excess(each) for each in level):
            return "a number is infinite, NaN or above 64 bits: send it as a string"
        level = [inner for each in level for inner in _inside(each)]
        depth += 1
        if depth > DEPTH_MAX:
            return f"it is nested deeper than {DEPTH_MAX} levels: make it flatter"
    return None


def _is_number_in_excess(value: object) -> bool:
    if isinstance(value, float):
        return not isfinite(value)
    return isinstance(value, int) and not INT_MIN <= value <= INT_MAX


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast("dict[object, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else []
