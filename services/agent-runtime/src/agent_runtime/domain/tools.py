"""
The tools that employees may use, each with the effect that repeating it has.

    pure       the same answer, nothing changes: repeat at will
    keyed      changes something, at most once per key: repeat with the same key
    probeable  changes something, and can be asked whether it did: ask, then repeat
    unsafe     may change something twice: an unknown outcome waits for a human

All tools here are pure. An answer to the model is always a result, also when the
model asked for nonsense: it can then do better.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import orjson

from agent_runtime.domain.calculator import CalculationRefused, calculate
from agent_runtime.domain.schema import violation_of
from contracts.completions import TextPart, ToolCallPart, ToolResultPart, ToolSpec
from contracts.message import JsonObject
from contracts.tasks import TaskFile

READ_CHARS_MAX: Final = 65_536
CALLS_PER_TURN_MAX: Final = 64
ARGUMENTS_CHARS_MAX: Final = 65_536
QUOTED_CHARS_MAX: Final = 300


class Effect(StrEnum):
    """What repeating a call may do."""

    PURE = "pure"
    KEYED = "keyed"
    PROBEABLE = "probeable"
    UNSAFE = "unsafe"


class ToolFailed(Exception):
    """The tool cannot do that; the text tells the model why."""


@dataclass(frozen=True)
class Tool:
    """A tool, what it may do, and how it is done."""

    spec: ToolSpec
    effect: Effect
    run: Callable[[JsonObject, Sequence[TaskFile]], str]
    """Checked arguments and the task's files → the answer, or ToolFailed."""


def specs(names: Sequence[str]) -> tuple[ToolSpec, ...]:
    """Return what the model is told of these tools; unknown names are left out."""
    return tuple(CATALOGUE[name].spec for name in names if name in CATALOGUE)


def is_pure(call: ToolCallPart) -> bool:
    """Tell whether performing the call again can do no harm."""
    tool = CATALOGUE.get(call.name)
    return tool is None or tool.effect is Effect.PURE


def perform(
    calls: Sequence[ToolCallPart], allowed: Sequence[str], files: Sequence[TaskFile]
) -> tuple[ToolResultPart, ...]:
    """
    Perform pure tool calls, in order; each call gets a result.

    Args:
        calls: As the model wrote them, possibly wrong.
        allowed: The employee's tools.
        files: The task's documents.
    """
    return tuple(
        _answer(call, position, allowed, files) for position, call in enumerate(calls)
    )


def _answer(
    call: ToolCallPart, position: int, allowed: Sequence[str], files: Sequence[TaskFile]
) -> ToolResultPart:
    try:
        text, is_error = _run(call, position, allowed, files), False
    except ToolFailed as refusal:
        text, is_error = f"Error: {refusal}", True
    content = (TextPart(text=text),)
    return ToolResultPart(call_id=call.call_id, content=content, is_error=is_error)


def _run(
    call: ToolCallPart, position: int, allowed: Sequence[str], files: Sequence[TaskFile]
) -> str:
    if position >= CALLS_PER_TURN_MAX:
        message = f"more than {CALLS_PER_TURN_MAX} calls at once: call fewer"
        raise ToolFailed(message)
    tool = CATALOGUE.get(call.name) if call.name in allowed else None
    if tool is None:
        name = _quoted(call.name)
        message = f"there is no tool {name}; yours are: {_names(allowed)}"
        raise ToolFailed(message)
    return tool.run(_arguments(call, tool.spec), files)


def _arguments(call: ToolCallPart, spec: ToolSpec) -> JsonObject:
    if len(call.arguments) > ARGUMENTS_CHARS_MAX:
        message = f"the arguments are longer than {ARGUMENTS_CHARS_MAX} characters"
        raise ToolFailed(message)
    try:
        # Some vendors send no text at all for a call without arguments.
        arguments = orjson.loads(call.arguments or "{}")
    except orjson.JSONDecodeError as cause:
        message = f"the arguments are no valid JSON ({cause}): send a JSON object"
        raise ToolFailed(message) from cause
    try:
        violation = violation_of(spec.parameters, arguments)
    except RecursionError as cause:
        raise ToolFailed("the arguments are nested too deeply") from cause
    if violation is not None:
        raise ToolFailed(f"invalid arguments {violation}")
    return arguments


def _read_file(arguments: JsonObject, files: Sequence[TaskFile]) -> str:
    path, start = arguments["path"], arguments.get("offset", 0)
    # JSON Schema counts 5.0 as an integer.
    offset = int(start) if isinstance(start, int | float) else 0
    found = next((each for each in files if each.name == path), None)
    if found is None:
        names = _names([each.name for each in files])
        message = f"there is no file {_quoted(str(path))}; the task's files: {names}"
        raise ToolFailed(message)
    size = len(found.content)
    if offset > size or (offset == size and offset > 0):
        raise ToolFailed(f"offset {offset} is behind the end: it has {size} characters")
    piece = found.content[offset : offset + READ_CHARS_MAX]
    end = offset + len(piece)
    if end == size:
        return piece
    return f"{piece}\n[cut at character {end} of {size}: go on with offset {end}]"


def _calculator(arguments: JsonObject, _files: Sequence[TaskFile]) -> str:
    try:
        return calculate(str(arguments["expression"]))
    except CalculationRefused as refusal:
        raise ToolFailed(str(refusal)) from refusal


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"


def _quoted(text: str) -> str:
    # repr also spells what UTF-8 cannot carry, such as half a surrogate pair.
    return repr(text[:QUOTED_CHARS_MAX])


_READ_FILE: Final = Tool(
    ToolSpec(
        name="read_file",
        description="Read one of the task's documents as text.",
        parameters={
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "The document's name."},
                "offset": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "Character to begin at; 0 unless told to go on.",
                },
            },
            "required": ["path"],
            "additionalProperties": False,
        },
    ),
    Effect.PURE,
    _read_file,
)
_CALCULATOR: Final = Tool(
    ToolSpec(
        name="calculator",
        description=(
            "Work out an arithmetic expression exactly: + - * / ** % and brackets on "
            "decimal numbers, without thousands separators or currency signs."
        ),
        parameters={
            "type": "object",
            "properties": {
                "expression": {"type": "string", "description": "2 * 48.90 + 17.5"}
            },
            "required": ["expression"],
            "additionalProperties": False,
        },
    ),
    Effect.PURE,
    _calculator,
)
CATALOGUE: Final[Mapping[str, Tool]] = {
    tool.spec.name: tool for tool in (_READ_FILE, _CALCULATOR)
}
