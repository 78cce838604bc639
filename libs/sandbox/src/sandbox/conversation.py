"""What both protocols say, in one form: the brain's input and its output."""

from dataclasses import dataclass
from enum import StrEnum

from sandbox.payload import JsonObject, bad_request


class Role(StrEnum):
    """Who speaks in a turn."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ToolMode(StrEnum):
    """Whether the caller allows, forbids or demands a tool call."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


class Finish(StrEnum):
    """Why the answer ended."""

    STOP = "stop"
    STOP_SEQUENCE = "stop_sequence"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    REFUSED = "refused"


class Sight(StrEnum):
    """What the caller sees of a thought; plain has no seal, as lookalikes do it."""

    SHOWN = "shown"
    OMITTED = "omitted"
    REDACTED = "redacted"
    PLAIN = "plain"


@dataclass(frozen=True)
class Thinking:
    """The wish to think before the answer, in at most so many tokens."""

    sight: Sight
    tokens_max: int | None = None


@dataclass(frozen=True)
class Thought:
    """What was thought before an answer; ``seal`` proves it when it is given back."""

    text: str
    seal: str
    sight: Sight


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool; ``call_id`` is empty until a protocol names it."""

    name: str
    arguments: JsonObject
    call_id: str = ""


@dataclass(frozen=True)
class Turn:
    """
    One line of the transcript.

    ``calls`` belong to an assistant's turn; ``call_id`` and ``failed`` to a
    tool's result; ``images`` and ``pages`` (of PDFs) are counted, for the brain
    cannot see them; ``thinking`` is an assistant's, given back while its calls are
    answered; ``cache_ttl`` marks the end of a prefix to be cached (5m or 1h).
    """

    role: Role
    text: str
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    failed: bool = False
    images: int = 0
    pages: int = 0
    thinking: str = ""
    cache_ttl: str = ""


@dataclass(frozen=True)
class Tool:
    """A tool on offer; ``parameters`` is its JSON Schema."""

    name: str
    description: str
    parameters: JsonObject


@dataclass(frozen=True)
class Conversation:
    """
    One request.

    ``answer_schema`` is the JSON Schema that the final text must satisfy;
    ``json_only`` asks for some JSON object; ``tokens_max`` bounds the answer;
    ``cache_asked`` says that the caller marked a prefix to be cached, ``frame_ttl``
    for how long its tools; ``logprobs`` is the number of alternatives per token.
    """

    model: str
    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    tool_mode: ToolMode = ToolMode.AUTO
    forced_tool: str | None = None
    parallel_calls: bool = True
    answer_schema: JsonObject | None = None
    json_only: bool = False
    tokens_max: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    obfuscate: bool = False
    reasoning_effort: str | None = None
    thinking: Thinking | None = None
    cache_asked: bool = False
    frame_ttl: str = ""
    logprobs: int | None = None
    service_tier: str = ""
    seed: int | None = None


@dataclass(frozen=True)
class Answer:
    """What the brain says: text, or tool calls, and why it stopped."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    finish: Finish = Finish.STOP
    stopped_by: str | None = None


def require_paired_calls(turns: tuple[Turn, ...]) -> None:
    """
    Check that tool results answer tool calls, each once and at once.

    Raises:
        RequestRefused: A result answers no open call, or a call stays open.
    """
    owed: set[str] = set()
    for position, turn in enumerate(turns):
        if turn.role is Role.TOOL:
            if turn.call_id not in owed:
                message = (
                    f"The tool result with id '{turn.call_id}' does not answer a "
                    "tool call of the preceding assistant message."
                )
                raise bad_request(message, f"messages.[{position}]")
            owed.remove(turn.call_id)
            continue
        if owed:
            break
        owed = {call.call_id for call in turn.calls}
    if owed:
        message = (
            "An assistant message with tool calls must be followed by a result for "
            f"each call id. These have no result: {', '.join(sorted(owed))}"
        )
        raise bad_request(message, "messages")
