"""Read and check a messages request as strictly as Anthropic does."""

from collections.abc import Iterator
from typing import Final

from sandbox.conversation import (
    Conversation,
    Role,
    Tool,
    ToolCall,
    ToolMode,
    Turn,
    require_paired_calls,
)
from sandbox.payload import (
    Json,
    JsonObject,
    bad_request,
    compact,
    list_of,
    object_of,
    text_of,
)

KNOWN: Final = frozenset(
    [
        "max_tokens",
        "messages",
        "model",
        "cache_control",
        "container",
        "diagnostics",
        "inference_geo",
        "metadata",
        "output_config",
        "output_format",
        "service_tier",
        "speed",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
        "user_profile_id",
        "workspace_id",
    ]
)
_MODES: Final = {
    "auto": ToolMode.AUTO,
    "any": ToolMode.REQUIRED,
    "tool": ToolMode.REQUIRED,
    "none": ToolMode.NONE,
}


def parse_request(body: JsonObject) -> Conversation:
    """
    Read a request.

    Raises:
        RequestRefused: A field is missing, unknown or malformed.
    """
    unknown = sorted(set(body) - KNOWN)
    if unknown:
        message = f"{unknown[0]}: Extra inputs are not permitted"
        raise bad_request(message, unknown[0])
    messages, tokens_max = body.get("messages"), body.get("max_tokens")
    if not isinstance(messages, list) or not messages:
        message = "messages: Field required, at least one message"
        raise bad_request(message, "messages")
    if not isinstance(tokens_max, int) or tokens_max < 1:
        message = "max_tokens: Field required, an integer of at least 1"
        raise bad_request(message, "max_tokens")
    turns = tuple(read_turns(body))
    require_paired_calls(turns)
    config = object_of(body.get("output_config"))
    form = object_of(config.get("format") or body.get("output_format"))
    choice = object_of(body.get("tool_choice"))
    mode = _MODES.get(text_of(choice.get("type"), "auto"))
    if mode is None:
        message = "tool_choice.type: Input should be auto, any, tool or none"
        raise bad_request(message, "tool_choice")
    schema = form.get("schema")
    stop = list_of(body.get("stop_sequences"))
    return Conversation(
        model=text_of(body.get("model")),
        turns=turns,
        tools=tuple(read_tools(body)),
        tool_mode=mode,
        forced_tool=text_of(choice.get("name")) or None,
        parallel_calls=choice.get("disable_parallel_tool_use") is not True,
        answer_schema=schema if isinstance(schema, dict) else None,
        tokens_max=tokens_max,
        stop=tuple(mark for each in stop if (mark := text_of(each))),
        stream=body.get("stream") is True,
        include_usage=True,
        cache_asked='"cache_control"' in compact(body),
    )


def read_turns(body: JsonObject) -> Iterator[Turn]:
    """Read the system prompt and the messages; one turn per tool result."""
    system = body.get("system")
    if system is not None:
        yield Turn(Role.SYSTEM, _text(system, "system")[0])
    for at, each in enumerate(list_of(body.get("messages"))):
        message = object_of(each)
        role, content = text_of(message.get("role")), message.get("content")
        if role not in ("user", "assistant") or (at == 0 and role != "user"):
            text = f"messages.{at}.role: expected user or assistant, the first a user"
            raise bad_request(text, "messages")
        blocks = [object_of(block) for block in list_of(content)]
        if not blocks and not text_of(content):
            text = f"messages.{at}: all messages must have non-empty content"
            raise bad_request(text, "messages")
        if role == "assistant":
            yield _assistant(content, blocks, at)
        else:
            yield from _user(content, blocks, at)


def read_tools(body: JsonObject) -> Iterator[Tool]:
    """Read the caller's own tools."""
    for each in list_of(body.get("tools")):
        tool = object_of(each)
        name = text_of(tool.get("name"))
        schema = object_of(tool.get("input_schema"))
        if not name or schema.get("type") != "object":
            text = "tools: each needs a name and an input_schema of type object"
            raise bad_request(text, "tools")
        yield Tool(name, text_of(tool.get("description")), schema)


def _assistant(content: Json, blocks: list[JsonObject], at: int) -> Turn:
    calls: list[ToolCall] = []
    for block in blocks:
        if block.get("type") == "tool_use":
            name, call_id = text_of(block.get("name")), text_of(block.get("id"))
            calls.append(ToolCall(name, object_of(block.get("input")), call_id))
    said: list[Json] = [b for b in blocks if b.get("type") == "text"]
    text = _text(said if blocks else content, f"messages.{at}")[0]
    return Turn(Role.ASSISTANT, text, tuple(calls))


def _user(content: Json, blocks: list[JsonObject], at: int) -> Iterator[Turn]:
    """Tool results come first, then what the user says."""
    rest: list[Json] = []
    for block in blocks:
        if block.get("type") != "tool_result":
            rest.append(block)
            continue
        if rest:
            text = f"messages.{at}: tool_result blocks must come before other content"
            raise bad_request(text, "messages")
        text, images = _text(block.get("content"), f"messages.{at}")
        call_id, failed = text_of(block.get("tool_use_id")), block.get("is_error")
        yield Turn(Role.TOOL, text, (), call_id, failed is True, images)
    if rest or not blocks:
        text, images = _text(rest if blocks else content, f"messages.{at}")
        yield Turn(Role.USER, text, images=images)


def _text(content: Json, path: str) -> tuple[str, int]:
    """Return the text of a content and its number of images."""
    if not isinstance(content, list):
        return text_of(content), 0
    texts: list[str] = []
    images = 0
    for each in content:
        block = object_of(each)
        match block.get("type"):
            case "text":
                texts.append(text_of(block.get("text")))
            case "image":
                images += 1
            case "document":
                texts.append(text_of(object_of(block.get("source")).get("data")))
            case other:
                message = f"{path}.content: Input tag '{other}' is not supported here"
                raise bad_request(message, path)
    return "\n".join(texts), images
