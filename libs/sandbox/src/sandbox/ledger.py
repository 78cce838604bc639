"""
The vendor's own token ledger: one row for every request that reached it.

A row is added when the call ends, however it ends. Rows are bounded (the oldest go
first) and, with a path, appended as JSON lines, so that a restart keeps them.
"""

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Final, TextIO

from sandbox.wire import Usage

ROWS_MAX: Final = 200_000


class EndState(StrEnum):
    """How a call ended, seen from the vendor."""

    COMPLETED = "completed"
    ERROR = "error"
    CUT = "cut"
    STALLED = "stalled"
    CLIENT_DISCONNECTED = "client_disconnected"


class RowKind(StrEnum):
    """What was asked for."""

    COMPLETION = "completion"
    EMBEDDING = "embedding"


@dataclass(frozen=True)
class Row:
    """
    One request.

    ``input_tokens`` is the whole prompt, cache included; ``output_tokens`` what was
    generated, also when the client never got it. ``usage_reported`` says whether the
    final usage was written to the client, and ``reported`` what it said: these same
    numbers, unless a fault made the vendor lie.
    """

    sequence: int
    request_id: str
    client_request_id: str
    protocol: str
    model: str
    stream: bool
    status: int
    end_state: EndState
    fault: str
    usage_reported: bool
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    started_at: float
    ended_at: float
    reported: Usage | None = None
    cache_write_1h_tokens: int = 0
    service_tier: str = ""
    kind: RowKind = RowKind.COMPLETION
    api_key_id: str = ""


class Ledger:
    """Rows in the order of their ends; sequences grow and are never reused."""

    def __init__(self, path: Path | None = None, rows_max: int = ROWS_MAX) -> None:
        self._rows: deque[Row] = deque(maxlen=rows_max)
        self._path = path
        self._file: TextIO | None = None
        self._last = 0
        if path is not None:
            if path.exists():
                self._rows.extend(_load(path))
                self._last = self._rows[-1].sequence if self._rows else 0
            self._file = path.open("a", encoding="utf-8")

    @property
    def next_sequence(self) -> int:
        """The sequence that the next row must have."""
        return self._last + 1

    def add(self, row: Row) -> None:
        """Add a row and, with a path, hand its line to the operating system."""
        self._last = row.sequence
        self._rows.append(row)
        if self._file is not None:
            self._file.write(json.dumps(asdict(row)) + "\n")
            self._file.flush()

    def page(
        self, after: int, limit: int, client_request_id: str | None
    ) -> tuple[list[Row], bool]:
        """Return up to ``limit`` rows after a sequence, and whether there are more."""
        found: list[Row] = []
        for row in self._rows:
            if row.sequence <= after:
                continue
            if client_request_id not in (None, row.client_request_id):
                continue
            if len(found) == limit:
                return found, True
            found.append(row)
        return found, False

    def rows(self) -> Iterator[Row]:
        """Go through all rows kept, oldest first."""
        return iter(self._rows)

    def __len__(self) -> int:
        """Return the number of rows kept."""
        return len(self._rows)

    def clear(self) -> None:
        """Forget all rows; sequences go on."""
        self._rows.clear()
        if self._file is not None:
            self._file.truncate(0)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _load(path: Path) -> Iterator[Row]:
    """Read the rows of a file; a line that a kill cut short is passed over."""
    names = {field.name for field in fields(Row)}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                values = json.loads(line)
                known = {name: values[name] for name in names if name in values}
                known["end_state"] = EndState(known["end_state"])
                known["kind"] = RowKind(known.get("kind", RowKind.COMPLETION))
                if told := known.get("reported"):
                    known["reported"] = Usage(**told)
                row = Row(**known)
            except (ValueError, KeyError, TypeError):
                continue
            yield row
