"""Log lines of many processes, readable by a person."""

import json
import logging
from collections.abc import Mapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

COLOURS: Final = (36, 35, 34, 32, 33, 96, 95, 94, 92, 93)
LEVELS: Final = {"warning": 33, "error": 31, "critical": 31}
HIDDEN: Final = frozenset(
    {
        "event",
        "level",
        "timestamp",
        "service",
        "instance",
        "trace_id",
        "span_id",
        "logger",
    }
)
NAME_WIDTH: Final = 15
FILE_BYTES_MAX: Final = 20 << 20
FILES_KEPT: Final = 2


class Console:
    """
    Keeps each process's output in a file and shows it.

    Args:
        folder: Where the files go.
        is_quiet: Show nothing; only keep.
        is_colourful: Whether the terminal takes colours.
    """

    def __init__(self, folder: Path, *, is_quiet: bool, is_colourful: bool) -> None:
        self._folder = folder
        self._is_quiet = is_quiet
        self._is_colourful = is_colourful
        self._files: dict[str, logging.Handler] = {}

    def say(self, name: str, line: str) -> None:
        """Take one line of a process."""
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = RotatingFileHandler(
                self._folder / f"{name}.log",
                maxBytes=FILE_BYTES_MAX,
                backupCount=FILES_KEPT,
            )
        file.emit(logging.makeLogRecord({"msg": line}))
        if not self._is_quiet:
            print(self._format(name, line), flush=True)  # noqa: T201 -- its purpose

    def close(self) -> None:
        """Close the files; a later line opens its own again."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _format(self, name: str, line: str) -> str:
        colour = COLOURS[hash_of(name) % len(COLOURS)]
        label = self._paint(f"{name:<{NAME_WIDTH}}", colour)
        found = parse(line)
        if found is None:
            return f"{label} {line}"
        level = str(found.get("level", "info"))
        event = self._paint(str(found.get("event", "")), LEVELS.get(level, 1))
        rest = " ".join(
            f"{key}={value}" for key, value in found.items() if key not in HIDDEN
        )
        time = str(found.get("timestamp", ""))[11:19]
        return f"{time} {label} {event} {rest}".rstrip()

    def _paint(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._is_colourful else text


def parse(line: str) -> Mapping[str, object] | None:
    """Return a structured line's fields; None for plain text."""
    if not line.startswith("{"):
        return None
    try:
        found: dict[str, object] = json.loads(line)
    except ValueError:
        return None
    return found if "event" in found else None


def hash_of(name: str) -> int:
    """Return a small number that is the same in every run."""
    return sum(name.encode())
