"""
JSON Schema validation that ends soon, whoever wrote the schema and the value.

The event loop waits for a validation, so each one has a budget. Three things of
JSON Schema have no bound of their own: references that fan out (thirteen levels of
two take eight seconds), regular expressions that backtrack, and ``uniqueItems``,
which compares every pair. A keyword costs what it looks at, a reference twenty
times that, and a pattern as many steps as it may have ways to fail on the text.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, Final, cast

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError
from jsonschema_specifications import REGISTRY

from bounded import patterns
from contracts.message import Json, JsonObject

BUDGET: Final = 250_000
"""Keywords looked at; about half a second."""
REFERENCE_COST: Final = 20
UNIQUE_ITEMS_MAX: Final = 500
WAYS_PER_UNIT: Final = 50
"""A regular expression's steps cost less than a keyword."""
SAMPLE_CHARS: Final = 100
"""A pattern has to be affordable on a text of this length."""

# Any: jsonschema hands its keywords over as whatever the schema holds.
_Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]

_left: ContextVar[list[int]] = ContextVar("_left")


class TooCostly(Exception):
    """The budget is used up."""


def first_violation(
    schema: JsonObject, value: Json, budget: int = BUDGET
) -> ValidationError | None:
    """
    Return how a value breaks its schema; None when it does not.

    Args:
        schema: JSON Schema 2020-12, perhaps a stranger's.
        value: What is held to it.
        budget: How many keywords may be looked at.

    Raises:
        TooCostly: It would take too long to tell.
        RecursionError: The value, or a reference, leads too deep.
        Unresolvable: The schema refers to nothing.
    """
    _left.set([budget])
    # An explicit registry: the default one fetches foreign references.
    validator = _Bounded(_one_dialect(schema), registry=REGISTRY)
    errors: Iterator[ValidationError] = validator.iter_errors(value)  # pyright: ignore[reportUnknownMemberType]
    return next(errors, None)


def pattern_error(pattern: str) -> str | None:
    """Tell why a schema's regular expression cannot be used; None when it can."""
    return patterns.error_of(pattern, SAMPLE_CHARS, BUDGET * WAYS_PER_UNIT)


def _one_dialect(value: Json) -> Any:
    """Drop ``$schema``: it would hand over to a validator without a budget."""
    if isinstance(value, dict):
        return {
            key: _one_dialect(each)
            for key, each in value.items()
            if not (key == "$schema" and isinstance(each, str))
        }
    if isinstance(value, list):
        return [_one_dialect(each) for each in value]
    return value


def _spend(units: int) -> None:
    left = _left.get()
    left[0] -= units
    if left[0] < 0:
        raise TooCostly


def _size(value: Any) -> int:  # Any: a part of a document
    return len(value) if isinstance(value, dict | list) else 0  # pyright: ignore[reportUnknownArgumentType]


def _charged(name: str, check: _Keyword) -> _Keyword:
    base = REFERENCE_COST if name in ("$ref", "$dynamicRef") else 1

    def keyword(
        validator: Any, wanted: Any, instance: Any, schema: Any
    ) -> Iterator[ValidationError]:
        _spend(base + _size(wanted) + _size(instance))
        yield from check(validator, wanted, instance, schema) or ()

    return keyword


def _pattern(
    _validator: Any, pattern: Any, instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    if isinstance(instance, str):
        _spend(patterns.ways(pattern, len(instance)) // WAYS_PER_UNIT)
        if re.search(pattern, instance) is None:
            yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _unique_items(
    validator: Any, wanted: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if wanted and isinstance(instance, list) and _size(instance) > UNIQUE_ITEMS_MAX:
        message = f"more than {UNIQUE_ITEMS_MAX} items cannot be held to uniqueItems"
        yield ValidationError(message)
    else:
        yield from _STANDARD["uniqueItems"](validator, wanted, instance, schema) or ()


_STANDARD: Final[dict[str, _Keyword]] = dict(Draft202012Validator.VALIDATORS)
_OWN: Final = _STANDARD | {"pattern": _pattern, "uniqueItems": _unique_items}
_Bounded: Final = cast(
    "type[Draft202012Validator]",
    validators.extend(  # pyright: ignore[reportUnknownMemberType]
        Draft202012Validator,
        {name: _charged(name, check) for name, check in _OWN.items()},
    ),
)
