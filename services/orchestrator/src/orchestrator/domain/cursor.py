"""Where a page of tasks ended, as text that callers hand back unread."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FORM: Final = re.compile(r"^(\d{1,17})\.([A-Za-z0-9_-]{1,64})$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last task of a page: newest first, so what follows is older."""

    created_at: datetime
    task_id: str

    def __str__(self) -> str:
        """Return ``<microseconds since 1970>.<task id>``."""
        microseconds = (self.created_at - _EPOCH) // timedelta(microseconds=1)
        return f"{microseconds}.{self.task_id}"


def read_cursor(text: str) -> Cursor | None:
    """Return the place that a cursor names; None when it is not one of ours."""
    found = _FORM.match(text)
    if found is None:
        return None
    microseconds = min(int(found[1]), 250_000_000_000_000_000)
    return Cursor(_EPOCH + timedelta(microseconds=microseconds), found[2])
