"""
The sandbox's rules: a request in, an answer out, nothing remembered in between.

1. A file that the user names and nobody has read is read, when a tool takes a path.
2. Line items are multiplied, then summed, by the calculator tool when there is one:
   its results alone count. Without one the sandbox calculates.
3. A tool that the user's last words name is called once, its arguments filled.
4. Then the asked schema is filled (response format, final-answer tool, or a schema
   in the system prompt), see ``forms``; without a schema it is prose, see ``prose``.

Only the user's turns give goals; a document is data and cannot ask for anything.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from sandbox import forms, prose
from sandbox.arithmetic import Check, evaluate, plan_checks
from sandbox.conversation import (
    Answer,
    Conversation,
    Finish,
    Role,
    Tool,
    ToolCall,
    ToolMode,
    Turn,
)
from sandbox.documents import NUMBER, parse_number, read_document
from sandbox.payload import Json, JsonObject, compact, list_of, object_of, text_of

_FILE = re.compile(
    r"(?<![\w/.-])((?:[\w-]+/)*[\w-][\w.-]*"
    r"\.(?:txt|md|csv|json|eml|html?|xml|ya?ml|log|pdf|docx?))\b"
)
_PATHS: Final = {"path", "file", "filename", "file_name", "file_path", "filepath"}
_NAMES: Final = {*_PATHS, "name", "document"}
_EXPRESSIONS: Final = {"expression", "formula"}
_WRITES = re.compile(
    r"write|delete|remove|save|append|create|send|list|move", re.IGNORECASE
)
_FINAL = re.compile(
    r"^(final|finish|submit|answer|respond|return)|final_", re.IGNORECASE
)
_FINAL_TEXT = re.compile(r"final (answer|result|output)", re.IGNORECASE)
_SUM = re.compile(
    rf"(?<![\w.,])\(*{NUMBER}\)*(?:(?:\s*[+*×x]\s*|\s+[-−/÷]\s+)\(*{NUMBER}\)*)+"
)


@dataclass(frozen=True)
class _Gadget:
    """A tool that the rules understand, and the parameter it takes."""

    tool: Tool
    parameter: str

    def call(self, argument: str) -> ToolCall:
        return ToolCall(self.tool.name, {self.parameter: argument})


def answer(talk: Conversation) -> Answer:
    """Answer a request by the rules above."""
    tools = () if talk.tool_mode is ToolMode.NONE else talk.tools
    if talk.forced_tool is not None:
        tools = tuple(tool for tool in tools if tool.name == talk.forced_tool)
    reader, calculator = _find_reader(talk.tools), _find_calculator(talk.tools)
    results = _results(talk)
    asked = [turn.text for turn in talk.turns if turn.role is Role.USER and turn.text]
    goal = asked[-1] if asked else ""
    unread = [name for name in _files(asked) if not _was_read(name, reader, results)]
    if unread and reader and reader.tool in tools:
        return _calling(talk, [reader.call(name) for name in unread])
    facts = _facts(talk, goal, asked, reader, calculator, results)
    if calculator and calculator.tool in tools:
        known = {_plain_expression(text) for text in _sums_asked(calculator, results)}
        checks = (*facts.sums, *facts.checks)
        owed = dict.fromkeys(each.expression for each in checks)
        fresh = [each for each in owed if _plain_expression(each) not in known]
        if fresh:
            return _calling(talk, [calculator.call(each) for each in fresh])
    gadgets = [gadget.tool for gadget in (reader, calculator) if gadget]
    others = [tool for tool in tools if tool not in gadgets]
    return _finish(talk, facts, others or list(tools), goal)


def _finish(
    talk: Conversation, facts: prose.Facts, tools: list[Tool], goal: str
) -> Answer:
    """Call the tool that the goal names, or give the final answer."""
    last_user = max(
        (i for i, t in enumerate(talk.turns) if t.role is Role.USER), default=0
    )
    called = {call.name for turn in talk.turns[last_user:] for call in turn.calls}
    final = next((tool for tool in tools if _is_final(tool)), None)
    for tool in tools:
        named = re.search(rf"\b{re.escape(tool.name)}\b", goal) and tool is not final
        if talk.forced_tool or (named and tool.name not in called):
            return _calling(talk, [_fill_call(tool, facts)])
    schema = talk.answer_schema
    if final and (schema is None or talk.tool_mode is ToolMode.REQUIRED):
        return _calling(talk, [_fill_call(final, facts)])
    if tools and talk.tool_mode is ToolMode.REQUIRED:
        return _calling(talk, [_fill_call(tools[0], facts)])
    schema = schema if schema is not None else _schema_in(facts.system)
    if schema is not None:
        return Answer(compact(forms.fill(schema, facts)))
    if talk.json_only:
        return Answer(compact({"answer": prose.plain_text(facts)}))
    return Answer(prose.plain_text(facts))


def _calling(talk: Conversation, calls: list[ToolCall]) -> Answer:
    allowed = calls if talk.parallel_calls else calls[:1]
    return Answer("", tuple(allowed), Finish.TOOL_CALLS)


def _fill_call(tool: Tool, facts: prose.Facts) -> ToolCall:
    return ToolCall(tool.name, object_of(forms.fill(tool.parameters, facts)))


def _facts(
    talk: Conversation,
    goal: str,
    asked: list[str],
    reader: _Gadget | None,
    calculator: _Gadget | None,
    results: list[tuple[ToolCall, Turn]],
) -> prose.Facts:
    numbers = _sums_asked(calculator, results) if calculator else {}
    by_sum = {_plain_expression(text): value for text, value in numbers.items()}

    def value_of(expression: str) -> Decimal | None:
        if calculator is None:
            return evaluate(expression)
        return by_sum.get(_plain_expression(expression))

    texts: list[str] = []
    failed: list[str] = []
    for call, result in results:
        if calculator and call.name == calculator.tool.name:
            continue
        if not _has_failed(result):
            texts.append(_unwrap(result.text))
        elif reader and call.name == reader.tool.name:
            failed.append(text_of(call.arguments.get(reader.parameter)))
    documents = [read_document(text) for text in texts or asked]
    goal_sums = (re.sub("[×x]", "*", found[0]) for found in _SUM.finditer(goal))
    return prose.Facts(
        goal=goal,
        system="\n".join(t.text for t in talk.turns if t.role is Role.SYSTEM),
        documents=tuple(documents),
        checks=tuple(c for each in documents for c in plan_checks(each, value_of)),
        sums=tuple(Check(s, s, None, value_of(s)) for s in goal_sums if texts == []),
        unread=tuple(failed),
        was_read=bool(texts),
    )


def _results(talk: Conversation) -> list[tuple[ToolCall, Turn]]:
    """Pair every tool result with the call that it answers."""
    calls: dict[str, ToolCall] = {}
    pairs: list[tuple[ToolCall, Turn]] = []
    for turn in talk.turns:
        calls.update({call.call_id: call for call in turn.calls})
        if turn.role is Role.TOOL and turn.call_id in calls:
            pairs.append((calls[turn.call_id], turn))
    return pairs


def _sums_asked(
    calculator: _Gadget, results: list[tuple[ToolCall, Turn]]
) -> dict[str, Decimal | None]:
    """Expression → the last number of its result; None where it failed."""
    sums: dict[str, Decimal | None] = {}
    for call, result in results:
        if call.name == calculator.tool.name:
            numbers = re.findall(NUMBER, result.text)
            value = None if _has_failed(result) or not numbers else numbers[-1]
            expression = text_of(call.arguments.get(calculator.parameter))
            sums[expression] = parse_number(value) if value else None
    return sums


def _files(asked: list[str]) -> dict[str, None]:
    return dict.fromkeys(name for text in asked for name in _FILE.findall(text))


def _was_read(
    name: str, reader: _Gadget | None, results: list[tuple[ToolCall, Turn]]
) -> bool:
    return reader is not None and any(
        call.name == reader.tool.name and call.arguments.get(reader.parameter) == name
        for call, _ in results
    )


def _find_reader(tools: tuple[Tool, ...]) -> _Gadget | None:
    found = list(_with_parameter(tools, _PATHS))
    found += [
        gadget
        for gadget in _with_parameter(tools, _NAMES)
        if re.search(r"file|document|attachment", f"{gadget.tool}", re.IGNORECASE)
    ]
    return next((each for each in found if not _WRITES.search(each.tool.name)), None)


def _find_calculator(tools: tuple[Tool, ...]) -> _Gadget | None:
    return next(_with_parameter(tools, _EXPRESSIONS), None)


def _with_parameter(tools: tuple[Tool, ...], names: set[str]) -> Iterator[_Gadget]:
    """Tools with such a string parameter that demand no other."""
    for tool in tools:
        required = set(map(str, list_of(tool.parameters.get("required"))))
        for name, schema in object_of(tool.parameters.get("properties")).items():
            is_text = object_of(schema).get("type", "string") == "string"
            if name.lower() in names and is_text and required <= {name}:
                yield _Gadget(tool, name)


def _is_final(tool: Tool) -> bool:
    return bool(_FINAL.search(tool.name) or _FINAL_TEXT.search(tool.description))


def _has_failed(result: Turn) -> bool:
    start = result.text.lstrip()[:9].lower()
    return result.failed or start.startswith(("error", '{"error"'))


def _plain_expression(text: str) -> str:
    return re.sub(r"\s", "", text)


def _unwrap(text: str) -> str:
    """Turn a JSON result into lines of ``Key: value``; other text stays."""
    if text[:1] not in ("{", "[", '"'):
        return text
    try:
        value: Json = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return "\n".join(_lines(value, ""))


def _lines(value: Json, name: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lines(inner, key.replace("_", " ").capitalize())
    elif isinstance(value, list):
        for inner in value:
            yield from _lines(inner, name)
    elif isinstance(value, str) and "\n" in value:
        yield value
    else:
        yield f"{name}: {value}" if name else str(value)


def _schema_in(system: str) -> JsonObject | None:
    """Find a JSON Schema of an object in the system prompt."""
    decoder = json.JSONDecoder()
    for start in re.finditer(r"\{", system):
        try:
            value: Json = decoder.raw_decode(system, start.start())[0]
        except (ValueError, RecursionError):
            continue
        found = object_of(value)
        if found.get("type") == "object" and "properties" in found:
            return found
    return None
