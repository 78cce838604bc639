"""Paths into an event: ``data.invoice.0.number``, ``type``, ``extensions.region``."""

import sys
from dataclasses import dataclass
from typing import Final

from contracts.events import Event
from contracts.message import Json, JsonObject

ROOTS: Final = frozenset(
    {
        "id",
        "source",
        "type",
        "subject",
        "time",
        "tenant",
        "data_content_type",
        "data",
        "extensions",
    }
)
PATH_CHARS_MAX: Final = 256
INDEX_DIGITS_MAX: Final = 7


@dataclass(frozen=True, slots=True)
class Found:
    """What stands at a path; ``None`` may stand there too."""

    value: Json


def document(event: Event) -> JsonObject:
    """Return the event as the object that paths lead into."""
    return {
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": None if event.time is None else event.time.isoformat(),
        "tenant": event.tenant,
        "data_content_type": event.data_content_type,
        "data": event.data,
        "extensions": dict[str, Json](event.extensions),
    }


def look_up(value: Json, path: str) -> Found | None:
    """Follow the path; None when it leads nowhere."""
    for part in path.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and (index := _index(part)) < len(value):
            value = value[index]
        else:
            return None
    return Found(value)


def fault_in(path: str) -> str | None:
    """Say what is wrong with a path; None when nothing is."""
    parts = path.split(".")
    if parts[0] not in ROOTS:
        return f"a path begins with one of {', '.join(sorted(ROOTS))}"
    if not all(parts) or path != "".join(path.split()) or len(path) > PATH_CHARS_MAX:
        return "write a path as data.invoice.number, without spaces"
    return None


def is_equal(left: Json, right: Json) -> bool:
    """Compare as JSON does: ``true`` is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(
            is_equal(left[key], right[key]) for key in left
        )
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(
            is_equal(one, other) for one, other in zip(left, right, strict=True)
        )
    return left == right


def _index(part: str) -> int:
    """Return the place in a list that a part names, or one past every end."""
    is_number = part.isdecimal() and len(part) <= INDEX_DIGITS_MAX
    return int(part) if is_number else sys.maxsize
