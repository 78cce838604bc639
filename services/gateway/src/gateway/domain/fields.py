"""
A caller's JSON object, read field by field until nothing is left.

What is taken is checked; what nobody took is refused by name, so that no field of a
request is dropped in silence. To both vendors null means that a field is absent.
"""

from collections.abc import Callable, Iterator
from math import isfinite
from typing import Final, TypeVar, cast

from contracts.message import Json, JsonObject

T = TypeVar("T")

UNKNOWN: Final = "unknown field: remove it"


class Unfit(Exception):
    """A request cannot be taken: which field, and what would be right."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field or 'the body'}: {detail}")
        self.field = field
        self.detail = detail

    @property
    def is_unknown(self) -> bool:
        """Whether the field itself is what nobody knows."""
        return self.detail == UNKNOWN


class Fields:
    """
    One JSON object.

    Args:
        value: The decoded JSON.
        path: Where it stands: ``messages[0].content[1]``; empty for the body.

    Raises:
        Unfit: It is no object.
    """

    def __init__(self, value: object, path: str = "") -> None:
        if not isinstance(value, dict):
            raise Unfit(path, "must be an object")
        found = cast("dict[str, object]", value)
        self._left = {name: each for name, each in found.items() if each is not None}
        self.path = path

    def at(self, name: str) -> str:
        """Return where a field stands."""
        return f"{self.path}.{name}" if self.path else name

    def unfit(self, name: str, detail: str) -> Unfit:
        """Return the refusal of a field; raise it."""
        return Unfit(self.at(name), detail)

    def has(self, name: str) -> bool:
        """Tell whether a field is there and not taken yet."""
        return name in self._left

    def peek(self, name: str) -> object:
        """Return a field without taking it; None when it is absent."""
        return self._left.get(name)

    def take(self, name: str) -> object:
        """Return a field as it came; None when it is absent."""
        return self._left.pop(name, None)

    def text(self, name: str, longest: int | None = None) -> str | None:
        """Return a text, of so many characters at most."""
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.unfit(name, "must be a string")
        if longest is not None and len(value) > longest:
            raise self.unfit(name, f"must have at most {longest} characters")
        return value

    def need_text(self, name: str, longest: int | None = None) -> str:
        """Return a text that must be there."""
        return self.need(name, self.text(name, longest))

    def need(self, name: str, value: T | None) -> T:
        """Return a value that was read and must be there."""
        if value is None:
            raise self.unfit(name, "is required")
        return value

    def choice(self, name: str, *known: str) -> str | None:
        """Return a text that must be one of these."""
        value = self.text(name)
        if value is not None and value not in known:
            raise self.unfit(name, f"must be one of {', '.join(known)}")
        return value

    def flag(self, name: str) -> bool | None:
        """Return true or false."""
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise self.unfit(name, "must be true or false")
        return value

    def whole(self, name: str, least: int, most: int) -> int | None:
        """Return an integer within bounds."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.unfit(name, "must be an integer")
        if not least <= value <= most:
            raise self.unfit(name, f"must be from {least} to {most}")
        return value

    def number(self, name: str, least: float, most: float) -> float | None:
        """Return a number within bounds."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.unfit(name, "must be a number")
        if not (isfinite(value) and least <= value <= most):
            raise self.unfit(name, f"must be from {least:g} to {most:g}")
        return float(value)

    def items(self, name: str, most: int) -> list[object] | None:
        """Return a list of at most so many."""
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self.unfit(name, f"must be a list, not {_kind_of(value)}")
        found = cast("list[object]", value)
        if len(found) > most:
            raise self.unfit(name, f"has {len(found)} entries: send at most {most}")
        return found

    def sections(self, name: str, most: int) -> Iterator["Fields"]:
        """Yield the objects of a list; nothing when it is absent."""
        for place, each in enumerate(self.items(name, most) or ()):
            yield Fields(each, f"{self.at(name)}[{place}]")

    def text_or_sections(self, name: str, most: int) -> "str | list[Fields] | None":
        """Return what may be one string or a list of objects."""
        if isinstance(self.peek(name), str):
            return self.text(name)
        return list(self.sections(name, most)) if self.has(name) else None

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        """Return a list of strings; nothing when it is absent."""
        found: list[str] = []
        for each in self.items(name, most) or ():
            if not isinstance(each, str):
                raise self.unfit(name, "must be a list of strings")
            found.append(each)
        return tuple(found)

    def section(self, name: str) -> "Fields | None":
        """Return an object."""
        value = self.take(name)
        return None if value is None else Fields(value, self.at(name))

    def json_object(self, name: str) -> JsonObject | None:
        """Return an object whose inside is not ours to know: a schema."""
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.unfit(name, "must be an object")
        return cast("JsonObject", value)

    def json(self, name: str) -> Json:
        """Return a value whose inside is not ours to know."""
        return cast("Json", self.take(name))

    def refuse(self, name: str, detail: str) -> None:
        """
        Refuse a field that is known and cannot be done.

        Raises:
            Unfit: It is there.
        """
        if self.has(name):
            raise self.unfit(name, detail)

    def end(self) -> None:
        """
        Finish the reading.

        Raises:
            Unfit: A field was not taken, so nobody knows it.
        """
        for name in self._left:
            raise self.unfit(name, UNKNOWN)


def _kind_of(value: object) -> str:
    match value:
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case _:
            return "an object"


def within(fields: Fields, read: Callable[[Fields], T]) -> T:
    """Read an object to its end."""
    found = read(fields)
    fields.end()
    return found
