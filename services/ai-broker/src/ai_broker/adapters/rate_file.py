"""
The file of rate limits, which is read again when it changes.

A mistake stops the start, and later keeps the last good version; either way its line
and field are named.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

import telemetry
from ai_broker.adapters.watched_file import WatchedFile
from ai_broker.domain.rate_book import RateBook, RateDocument

log = telemetry.get_logger()


class NoRates:
    """No file, no limits."""

    def now(self) -> RateBook:
        """Return a book without rules."""
        return _EMPTY

    async def refresh(self) -> None:
        """Do nothing: there is nothing to look at."""


class RateFile:
    """
    The rate limits of a file.

    Args:
        path: Where it is.

    Raises:
        ValueError: It has a mistake.
    """

    def __init__(self, path: Path) -> None:
        self._file = WatchedFile(path)
        book = self._newer()
        if book is None:
            raise ValueError(f"{path}: cannot be read")
        self._book = book

    def now(self) -> RateBook:
        """Return the limits that hold now."""
        return self._book

    async def refresh(self) -> None:
        """Look whether the file has changed, and take it if it is right."""
        try:
            book = await asyncio.to_thread(self._newer)
        except ValueError as cause:
            telemetry.metrics.rate_file_reloads_total.add(1, outcome="invalid")
            telemetry.metrics.rate_file_rejected.set(1)
            log.error(  # noqa: TRY400 -- the text says it all
                "rate_file_rejected", path=str(self._file.path), detail=str(cause)
            )
            return
        if book is not None:
            self._book = book
            telemetry.metrics.rate_file_reloads_total.add(1, outcome="ok")
            telemetry.metrics.rate_file_rejected.set(0)
            log.info("rate_file_taken", path=str(self._file.path))

    def _newer(self) -> RateBook | None:
        content = self._file.newer()
        return None if content is None else read_rates(content, str(self._file.path))


def read_rates(content: bytes, name: str) -> RateBook:
    """
    Return the limits that a file says.

    Args:
        content: YAML.
        name: What to call it in errors.

    Raises:
        ValueError: It has a mistake; the text names its line and field.
    """
    try:
        found = yaml.safe_load(content)
        document = RateDocument.model_validate({} if found is None else found)
    except yaml.YAMLError as cause:
        raise ValueError(f"{name}: no YAML: {cause}") from cause
    except ValidationError as cause:
        first = cause.errors(include_url=False)[0]
        line = _line_of(content, first["loc"])
        field = ".".join(str(each) for each in first["loc"]) or "the file"
        detail = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{name}, line {line}: {field}: {detail}") from cause
    return RateBook(document.rules)


def _line_of(content: bytes, location: Sequence[str | int]) -> int:
    """Return the line of a field, or of the nearest thing around it; from 1."""
    node = yaml.compose(content, yaml.SafeLoader)
    line = 1
    for step in location:
        inner = _within(node, step)
        if inner is None:
            break
        node = inner
        line = node.start_mark.line + 1
    return line


def _within(node: yaml.Node | None, step: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        pairs = {key.value: value for key, value in node.value}
        return pairs.get(step)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
        return node.value[step]
    return None


_EMPTY = RateBook()
