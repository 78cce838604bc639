"""Read and check a messages request as strictly as Anthropic does."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from sandbox.anthropic_content import (
    THOUGHTS,
    body_messages,
    last_mark,
    read_marks,
    read_turns,
)
from sandbox.conversation import (
    Conversation,
    Sight,
    Thinking,
    Tool,
    ToolMode,
    require_paired_calls,
)
from sandbox.payload import (
    JsonObject,
    bad_request,
    list_of,
    object_of,
    text_of,
)

BUDGET_TOKENS_MIN: Final = 1024

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
    if "cache_control" in body:
        turns = (*turns[:-1], replace(turns[-1], cache_ttl=read_marks(body)[-1]))
    require_paired_calls(turns)
    config = object_of(body.get("output_config"))
    form = object_of(config.get("format") or body.get("output_format"))
    choice = object_of(body.get("tool_choice"))
    mode = _MODES.get(text_of(choice.get("type"), "auto"))
    if mode is None:
        message = "tool_choice.type: Input should be auto, any, tool or none"
        raise bad_request(message, "tool_choice")
    schema = form.get("schema")
    marks = read_marks(body)
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
        thinking=_thinking(body, is_forced=mode is ToolMode.REQUIRED),
        service_tier="standard",
        frame_ttl=last_mark(body.get("tools")),
        cache_asked=bool(marks),
    )


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


def _thinking(body: JsonObject, *, is_forced: bool) -> Thinking | None:
    """
    Read how to think, and what else may then be asked.

    Raises:
        RequestRefused: The budget, the temperature or the tool choice forbids it, or
            the thought before the calls that are answered was not given back.
    """
    config = object_of(body.get("thinking"))
    kind, budget = config.get("type"), config.get("budget_tokens")
    tokens_max = body.get("max_tokens")
    if kind in (None, "disabled"):
        return None
    if kind not in ("enabled", "adaptive"):
        message = f"thinking.type: expected enabled, adaptive or disabled, not {kind}"
        raise bad_request(message, "thinking")
    if kind == "enabled":
        if not isinstance(budget, int) or budget < BUDGET_TOKENS_MIN:
            message = (
                "thinking.enabled.budget_tokens: Input should be greater than or "
                f"equal to {BUDGET_TOKENS_MIN}"
            )
            raise bad_request(message, "thinking")
        if isinstance(tokens_max, int) and budget >= tokens_max:
            message = "`max_tokens` must be greater than `thinking.budget_tokens`."
            raise bad_request(message, "max_tokens")
    if is_forced:
        message = "Thinking may not be enabled when tool_choice forces tool use."
        raise bad_request(message, "tool_choice")
    if body.get("temperature") not in (None, 1):
        message = "`temperature` may only be set to 1 when thinking is enabled."
        raise bad_request(message, "temperature")
    if kind == "enabled":
        _require_thought(body)
    omitted = config.get("display") == "omitted"
    sight = Sight.OMITTED if omitted else Sight.SHOWN
    return Thinking(sight, budget if isinstance(budget, int) else None)


def _require_thought(body: JsonObject) -> None:
    """Check that calls being answered stand behind the thought that made them."""
    messages = [object_of(each) for each in body_messages(body)]
    for at in range(len(messages) - 1, -1, -1):
        message = messages[at]
        if message.get("role") != "assistant":
            continue
        blocks = [object_of(each) for each in list_of(message.get("content"))]
        kinds = [text_of(block.get("type")) for block in blocks]
        if "tool_use" in kinds and kinds[0] not in THOUGHTS and at == len(messages) - 2:
            text = (
                f"messages.{at}.content.0.type: Expected `thinking` or "
                f"`redacted_thinking`, but found `{kinds[0]}`. When `thinking` is "
                "enabled, a final `assistant` message must start with a thinking "
                "block (preceeding the lastmost set of `tool_use` and `tool_result` "
                "blocks). To avoid this requirement, disable `thinking`."
            )
            raise bad_request(text, "messages")
        return
