"""
Which JSON values every reader on the way can hold.

Parsers differ where JSON is vague: some turn an integer above 64 bits into a float,
most write NaN as null, each gives up at another depth. What is accepted must reach
the employee as it came, so what one of them would change is refused at the door.
"""

import re
from math import isfinite
from typing import Final, cast

DEPTH_MAX: Final = 64
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**64 - 1
SURROGATE: Final = re.compile("[\ud800-\udfff]")


def excess_of(value: object) -> str | None:
    """Say what is too much in a decoded JSON value; None when it is fine."""
    level, depth = [value], 0
    while level:
        if (excess := next(filter(None, map(_excess_of_one, level)), None)) is not None:
            return excess
        level = [inner for each in level for inner in _inside(each)]
        depth += 1
        if depth > DEPTH_MAX:
            return f"it is nested deeper than {DEPTH_MAX} levels: make it flatter"
    return None


def _excess_of_one(value: object) -> str | None:
    match value:
        case float() if not isfinite(value):
            return "a number is infinite or not a number: send it as a string"
        case int() if not INT_MIN <= value <= INT_MAX:
            return "a number is above 64 bits: send it as a string"
        case str() if SURROGATE.search(value):
            return "a text holds half a character (a lone surrogate): send it whole"
        case _:
            return None


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        fields = cast("dict[object, object]", value)
        return [*fields, *fields.values()]
    return cast("list[object]", value) if isinstance(value, list) else []
