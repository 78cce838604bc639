"""
JSON Schemas that tenants write, and values that models write: both untrusted.

Nothing is ever fetched: references stay inside the document. Depth and size are
bounded before anything recursive looks at them, and checking has a budget.
"""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Final, NoReturn

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing.exceptions import Unresolvable

from bounded.schema import TooCostly, first_violation, pattern_error
from contracts.message import Json, JsonObject
from contracts.problems import FieldError

SCHEMA_CHARS_MAX: Final = 32_768
SCHEMA_DEPTH_MAX: Final = 32
OUTPUT_BYTES_MAX: Final = 262_144
ERROR_CHARS_MAX: Final = 500
ERRORS_MAX: Final = 20


class OutputInvalid(ValueError):
    """An answer is not what its schema asks for; the text says where."""


def schema_errors(schema: JsonObject, pointer: str) -> tuple[FieldError, ...]:
    """
    Return what is wrong with a JSON Schema 2020-12.

    Args:
        schema: As the builder wrote it.
        pointer: Where it stands in the document: ``/output_schema``.
    """
    if _depth_exceeds(schema, SCHEMA_DEPTH_MAX):
        detail = f"nested deeper than {SCHEMA_DEPTH_MAX} levels: make it flatter"
        return (FieldError(pointer=pointer, detail=detail),)
    if len(json.dumps(schema)) > SCHEMA_CHARS_MAX:
        detail = f"longer than {SCHEMA_CHARS_MAX} characters: make it smaller"
        return (FieldError(pointer=pointer, detail=detail),)
    refused = tuple(_refused(schema, pointer))
    if refused:
        return refused[:ERRORS_MAX]
    try:
        Draft202012Validator.check_schema(schema)
        _try_out(schema)
    except SchemaError as error:
        at = pointer + "".join(f"/{_escaped(str(part))}" for part in error.path)
        return (FieldError(pointer=at, detail=error.message[:ERROR_CHARS_MAX]),)
    except Unresolvable as error:
        detail = f"$ref {error.ref!r} points at nothing in this schema"
        return (FieldError(pointer=pointer, detail=detail),)
    except RecursionError:
        detail = "a $ref leads back to itself without end: break the circle"
        return (FieldError(pointer=pointer, detail=detail),)
    except TooCostly:
        detail = "its references fan out too far to be checked in time: use fewer"
        return (FieldError(pointer=pointer, detail=detail),)
    return ()


def parse_output(text: str, schema: JsonObject) -> Json:
    """
    Return the value that an answer spells, held to its schema.

    Raises:
        OutputInvalid: It is no JSON, or not what the schema asks for.
    """
    try:
        value: Json = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite
        )
        json.dumps(value, ensure_ascii=False).encode()
        violation = violation_of(schema, value)
    except UnicodeEncodeError as cause:
        raise OutputInvalid("the answer contains half a surrogate pair") from cause
    except RecursionError as cause:
        raise OutputInvalid("the answer is nested too deeply") from cause
    except Unresolvable as cause:
        raise OutputInvalid(f"the schema's $ref {cause.ref!r} is broken") from cause
    except ValueError as cause:
        message = f"the answer is no valid JSON: {cause}"[:ERROR_CHARS_MAX]
        raise OutputInvalid(message) from cause
    if violation is not None:
        raise OutputInvalid(violation)
    return value


def violation_of(schema: JsonObject, value: Json) -> str | None:
    """
    Tell where and how a value breaks its schema; None when it does not.

    Raises:
        RecursionError: The value is nested too deeply to be looked at.
        Unresolvable: The schema refers to nothing.
    """
    try:
        first = first_violation(schema, value)
    except TooCostly:
        return "at /: it is too large to be checked in time"
    if first is None:
        return None
    where = "".join(f"/{_escaped(str(part))}" for part in first.absolute_path)
    # Its messages quote by repr, which spells what UTF-8 cannot carry.
    return f"at {where or '/'}: {first.message}"[:ERROR_CHARS_MAX]


def is_strict(schema: Json) -> bool:
    """Tell whether vendors can enforce it: closed objects, every property required."""
    if isinstance(schema, list):
        return all(is_strict(each) for each in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if isinstance(properties, dict):
        required = schema.get("required")
        names = required if isinstance(required, list) else []
        closed = schema.get("additionalProperties") is False
        if not closed or any(name not in names for name in properties):
            return False
        return all(is_strict(each) for each in properties.values())
    if schema.get("type") == "object":
        return False
    return all(is_strict(each) for each in schema.values())


def _try_out(schema: JsonObject) -> None:
    """Meet broken and circular references now, not at the first answer."""
    samples: Sequence[Json] = ({}, [], "", 0, None)
    for sample in samples:
        first_violation(schema, sample)


def _refused(value: Json, pointer: str) -> Iterator[FieldError]:
    """Yield what is sound JSON Schema, but cannot be used here."""
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _refused(each, f"{pointer}/{index}")
    if not isinstance(value, dict):
        return
    for key, each in value.items():
        at = f"{pointer}/{_escaped(key)}"
        detail = _why_not(key, each)
        if detail is not None:
            yield FieldError(pointer=at, detail=detail)
        yield from _refused(each, at)


def _why_not(key: str, value: Json) -> str | None:
    if key in ("$ref", "$dynamicRef") and not str(value).startswith("#"):
        is_name = isinstance(value, dict)
        hint = "only references inside this schema (#/$defs/…) are followed"
        return None if is_name else hint
    if key == "pattern" and isinstance(value, str):
        return pattern_error(value)
    if key == "patternProperties" and isinstance(value, dict):
        return "not supported: name the properties, or use additionalProperties"
    return None


def _depth_exceeds(value: Json, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_depth_exceeds(each, levels - 1) for each in inner)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        message = f"{text[:40]} is too large a number"
        raise ValueError(message)
    return number


def _refuse_constant(text: str) -> NoReturn:
    message = f"{text} is not JSON"
    raise ValueError(message)
