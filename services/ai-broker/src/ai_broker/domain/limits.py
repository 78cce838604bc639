"""
What a request may be, before anything is spent on it, and how long an answer.

A vendor would refuse most of this too, but late, in its own words, and after an
attempt was booked. The limits are above what vendors take, so that none of them ever
refuses what a vendor would have answered.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from contracts.completions import (
    ChatTurn,
    CompletionRequest,
    DocumentPart,
    ImagePart,
    Part,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolMode,
    ToolResultPart,
)
from contracts.message import Json
from contracts.problems import Code

TURNS_MAX: Final = 10_000
PARTS_MAX: Final = 20_000
TEXT_CHARACTERS_MAX: Final = 8_000_000
TOOLS_MAX: Final = 1_024
SCHEMA_DEPTH_MAX: Final = 64
SCHEMA_NODES_MAX: Final = 50_000
IMAGES_MAX: Final = 500
DOCUMENTS_MAX: Final = 100
BINARY_BYTES_MAX: Final = 32 * 1024 * 1024
STOP_CHARACTERS_MAX: Final = 1_024
METADATA_MAX: Final = 64

ANSWER_WEIGHT_MAX: Final = 8 * 1024 * 1024
"""The longest answer that is listened to, in characters."""
ANSWER_SLACK: Final = 65_536
CHARACTERS_PER_TOKEN_MAX: Final = 32
"""Above any tokenizer's average: runs of spaces make the longest tokens."""


@dataclass(frozen=True)
class Refusal:
    """Why a request goes nowhere; the text names field, limit and remedy."""

    code: Code
    detail: str


def answer_weight_max(request: CompletionRequest) -> int:
    """Return how long an answer may become before its vendor is taken for endless."""
    if request.output_tokens_max is None:
        return ANSWER_WEIGHT_MAX
    asked = request.output_tokens_max * CHARACTERS_PER_TOKEN_MAX + ANSWER_SLACK
    return min(asked, ANSWER_WEIGHT_MAX)


def characters(request: CompletionRequest) -> int:
    """Return how much text the turns have."""
    return sum(
        _characters(part) for turn in request.turns for part in _flat(turn.parts)
    )


def refusal(request: CompletionRequest) -> Refusal | None:
    """Return why a request cannot be asked of anybody; None when it can."""
    too_large = next(_too_large(request), None)
    if too_large is not None:
        return Refusal(Code.TOO_LARGE, too_large)
    malformed = next(_malformed(request), None)
    return None if malformed is None else Refusal(Code.INVALID, malformed)


def _too_large(request: CompletionRequest) -> Iterator[str]:
    yield from _above("turns", len(request.turns), TURNS_MAX, "compact the history")
    yield from _above("tools", len(request.tools), TOOLS_MAX, "offer fewer")
    yield from _above("metadata", len(request.metadata), METADATA_MAX, "send less")
    parts = [part for turn in request.turns for part in _flat(turn.parts)]
    hint = "compact the history"
    yield from _above("turns[*].parts", len(parts), PARTS_MAX, hint)
    yield from _binaries(parts)
    characters = sum(map(_characters, parts))
    yield from _above("turns: characters", characters, TEXT_CHARACTERS_MAX, hint)
    for at, stop in enumerate(request.stop):
        where = f"stop[{at}]: characters"
        yield from _above(where, len(stop), STOP_CHARACTERS_MAX, "shorten it")
    for at, tool in enumerate(request.tools):
        yield from _schema(f"tools[{at}].parameters", tool.parameters)
    if request.output_schema is not None:
        yield from _schema("output_schema", request.output_schema.json_schema)
    yield from _schema("extra", request.extra)


def _binaries(parts: list[Part]) -> Iterator[str]:
    images = [each for each in parts if isinstance(each, ImagePart)]
    documents = [each for each in parts if isinstance(each, DocumentPart)]
    yield from _above("images", len(images), IMAGES_MAX, "send fewer")
    yield from _above("documents", len(documents), DOCUMENTS_MAX, "send fewer")
    sent = sum(len(each.data or b"") for each in (*images, *documents))
    hint = "scale them down or send URLs"
    yield from _above("images and documents: bytes", sent, BINARY_BYTES_MAX, hint)


def _above(what: str, found: int, limit: int, hint: str) -> Iterator[str]:
    if found > limit:
        yield f"{what}: {found:,}, at most {limit:,}; {hint}"


def _flat(parts: Iterable[Part]) -> Iterator[Part]:
    for part in parts:
        yield part
        if isinstance(part, ToolResultPart):
            yield from part.content


def _characters(part: Part) -> int:
    match part:
        case TextPart() | RefusalPart() | ReasoningPart():
            return len(part.text)
        case ToolCallPart():
            return len(part.arguments)
        case ImagePart() | DocumentPart():
            return len(part.url or "")
        case ToolResultPart():
            return 0  # its content is counted part by part


def _schema(where: str, schema: Json) -> Iterator[str]:
    """Walk level by level, so that no depth exhausts Python's own stack."""
    level: list[Json] = [schema]
    nodes = depth = 0
    while level:
        nodes += len(level)
        if depth > SCHEMA_DEPTH_MAX:
            yield f"{where}: nested deeper than {SCHEMA_DEPTH_MAX} levels; flatten it"
            return
        if nodes > SCHEMA_NODES_MAX:
            yield f"{where}: more than {SCHEMA_NODES_MAX:,} values; make it smaller"
            return
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        depth += 1


def _malformed(request: CompletionRequest) -> Iterator[str]:
    if all(turn.role is Role.SYSTEM for turn in request.turns):
        yield "turns: only system turns; add what the user says"
    yield from _tools(request)
    for at, stop in enumerate(request.stop):
        if not stop:
            yield f"stop[{at}]: empty; leave it out"
    pending: dict[str, str] = {}
    for at, turn in enumerate(request.turns):
        where = f"turns[{at}]"
        if not turn.parts:
            yield f"{where}.parts: empty; leave the turn out"
        if turn.role is Role.ASSISTANT:
            yield from _unanswered(pending)
        for place, part in enumerate(turn.parts):
            yield from _misplaced(f"{where}.parts[{place}]", turn, part)
            yield from _unpaired(f"{where}.parts[{place}]", part, pending)
    yield from _unanswered(pending)


def _tools(request: CompletionRequest) -> Iterator[str]:
    names = [tool.name for tool in request.tools]
    seen: set[str] = set()
    for at, name in enumerate(names):
        if name in seen:
            yield f"tools[{at}].name: {name!r} is there already; names are unique"
        seen.add(name)
    choice = request.tool_choice
    if choice.mode is ToolMode.NAMED and choice.name not in seen:
        yield f"tool_choice.name: {choice.name!r} is not among the tools"
    if choice.mode is ToolMode.REQUIRED and not names:
        yield "tool_choice.mode: required, but there are no tools"


def _misplaced(where: str, turn: ChatTurn, part: Part) -> Iterator[str]:
    """Only the model calls, reasons and refuses; only its counterpart answers."""
    if isinstance(part, ToolCallPart | ReasoningPart | RefusalPart):
        if turn.role is not Role.ASSISTANT:
            yield f"{where}: {part.kind} in a {turn.role} turn; only assistant has it"
    elif isinstance(part, ToolResultPart):
        if turn.role in {Role.ASSISTANT, Role.SYSTEM}:
            yield f"{where}: tool-result in a {turn.role} turn; put it in a tool turn"
    elif isinstance(part, ImagePart | DocumentPart):
        given = [each for each in (part.data, part.url) if each is not None]
        if len(given) != 1:
            yield f"{where}: give either data or url"


def _unpaired(where: str, part: Part, pending: dict[str, str]) -> Iterator[str]:
    if isinstance(part, ToolCallPart):
        if part.call_id in pending:
            yield f"{where}.call_id: {part.call_id!r} is called already; ids are unique"
        pending[part.call_id] = where
    elif isinstance(part, ToolResultPart):
        if part.call_id not in pending:
            yield f"{where}.call_id: no call {part.call_id!r} awaits a result here"
        pending.pop(part.call_id, None)


def _unanswered(pending: dict[str, str]) -> Iterator[str]:
    for call_id, where in pending.items():
        yield f"{where}: the call {call_id!r} has no result; add a tool-result for it"
