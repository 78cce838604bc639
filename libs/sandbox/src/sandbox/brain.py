"""
The sandbox's rules: a request in, an answer out, nothing remembered in between.

1. Read: a file that the user names is read, by a tool that takes a ``path`` alone.
2. Calculate: each item, then the totals (``facts``), by a tool that takes an
   ``expression`` alone. Its results count; without one the sandbox calculates.
3. Act: a tool that the user's last words name is called once; a demanded one always.
4. Answer: the asked schema is filled (``form``), be it the response format, a tool's
   or one in the system prompt. Else text: what ``say "…"`` or ``count to N`` asks for,
   the wrong sums, or the sentences nearest to the goal.

No file or sum is asked for twice. Only users give goals; a document asks for nothing.
"""

import json
import re
from contextlib import suppress
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from sandbox.conversation import Answer, Conversation, Finish, Role, ToolCall, ToolMode
from sandbox.facts import Facts, evaluate, read
from sandbox.form import fill
from sandbox.payload import JsonObject, compact, object_of

COUNT_MAX: Final = 100_000
CALLS_MAX: Final = 50
CENT: Final = Decimal("0.01")
_FILE = re.compile(r"(?<![\w/.-])\w[\w/.-]*\.(?:txt|md|csv|json|eml|html|xml|yaml)\b")
_SAY = re.compile(r"\b(?:say|exactly):? [\"“](.+?)[\"”]", re.DOTALL)
_COUNT = re.compile(r"\bcount to (\d{1,9})")
_VALUE = re.compile(r"(?<![\d.])-?\d{1,20}(?:\.\d+)?(?=\W*$)")


def answer(talk: Conversation) -> Answer:
    """Answer a request by the rules above."""
    goals = [turn.text for turn in talk.turns if turn.role is Role.USER]
    goal = goals[-1] if goals else ""
    reader, calculator = _taking("path", talk), _taking("expression", talk)
    results = _results(talk)
    known = {str(v): text for call, text in results for v in call.arguments.values()}

    def calculate(expression: str) -> Decimal | None:
        told = known.get(expression, "") if calculator else str(evaluate(expression))
        value = _VALUE.search(told)
        return Decimal(value[0]).quantize(CENT, ROUND_HALF_UP) if value else None

    told = [text for call, text in results if call.name != calculator]
    facts = read([text for text in told if text] if told else goals, calculate)
    files = [name for each in goals for name in _FILE.findall(each)]
    sums = [claim.expression for claim in facts.claims if claim.expression]
    owed = {name: ToolCall(reader, {"path": name}) for name in files}
    owed |= {each: ToolCall(calculator, {"expression": each}) for each in sums}
    tools = () if talk.tool_mode is ToolMode.NONE else talk.tools
    offered = {t.name: t for t in tools if talk.forced_tool in (None, t.name)}
    calls = [c for key, c in owed.items() if key not in known and c.name in offered]
    if not calls:
        others = [each for each in offered if each not in (reader, calculator)]
        fresh = {*others} - {call.name for call, _ in results}
        chosen = [each for each in re.findall(r"[\w-]+", goal) if each in fresh]
        if talk.forced_tool or talk.tool_mode is ToolMode.REQUIRED:
            chosen += others or offered
        for name in chosen[:1]:
            form = offered[name].parameters
            calls = [ToolCall(name, object_of(fill(form, facts, form)))]
    if calls:
        made = calls[: CALLS_MAX if talk.parallel_calls else 1]
        return Answer("", tuple(made), Finish.TOOL_CALLS)
    schema = talk.answer_schema or _schema_in(talk)
    if schema:
        return Answer(compact(fill(schema, facts, schema)))
    text = f"[sandbox] {_text(goal, facts) or f'Nothing could be read: {goal}'}"
    return Answer(compact({"answer": text}) if talk.json_only else text)


def _text(goal: str, facts: Facts) -> str:
    if found := _SAY.search(goal):
        return found[1]
    if found := _COUNT.search(goal):
        return " ".join(map(str, range(1, min(int(found[1]), COUNT_MAX) + 1)))
    return facts.gist(goal)


def _results(talk: Conversation) -> list[tuple[ToolCall, str]]:
    """Pair each call with what the tool told, which is nothing where it failed."""
    calls = {call.call_id: call for turn in talk.turns for call in turn.calls}
    pairs = [
        (calls[turn.call_id], turn) for turn in talk.turns if turn.call_id in calls
    ]
    failed = [turn.failed or turn.text[:5].lower() == "error" for _, turn in pairs]
    return [
        (c, "" if bad else t.text) for (c, t), bad in zip(pairs, failed, strict=True)
    ]


def _taking(parameter: str, talk: Conversation) -> str:
    """Name the tool that demands this parameter and no other."""
    needs = ((tool.name, tool.parameters.get("required")) for tool in talk.tools)
    return next((name for name, needed in needs if needed == [parameter]), "")


def _schema_in(talk: Conversation) -> JsonObject:
    """Find a JSON Schema in the system prompt, which many clients put there."""
    prompt = "".join(turn.text for turn in talk.turns if turn.role is Role.SYSTEM)
    braces = re.search(r"\{.*\}", prompt, re.DOTALL)
    with suppress(ValueError, RecursionError):
        found = object_of(json.loads(braces[0] if braces else "{}"))
        return found if "properties" in found else {}
    return {}
