"""Read and check a chat-completions request as strictly as OpenAI does."""

import json
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
from sandbox.payload import Json, JsonObject, bad_request, list_of, object_of, text_of

KNOWN: Final = frozenset(
    [
        "messages",
        "model",
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "metadata",
        "modalities",
        "moderation",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    ]
)
_ROLES: Final = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
}
_MODES: Final = {
    "auto": ToolMode.AUTO,
    "none": ToolMode.NONE,
    "required": ToolMode.REQUIRED,
}


def parse_request(body: JsonObject) -> Conversation:
    """
    Read a request.

    Raises:
        RequestRefused: A field is missing, unknown or malformed.
    """
    unknown = sorted(set(body) - KNOWN)
    if unknown:
        message = f"Unrecognized request argument supplied: {unknown[0]}"
        raise bad_request(message, unknown[0])
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        message = "Missing required parameter: 'messages'."
        raise bad_request(message, "messages")
    if body.get("n") not in (None, 1):
        message = "The sandbox gives one choice: 'n' must be 1."
        raise bad_request(message, "n")
    turns = tuple(_turn(object_of(each), at) for at, each in enumerate(messages))
    require_paired_calls(turns)
    form = object_of(body.get("response_format"))
    mode, forced = _tool_choice(body.get("tool_choice"))
    options = object_of(body.get("stream_options"))
    stop = body.get("stop")
    stream = body.get("stream") is True
    if options and not stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is on."
        raise bad_request(message, "stream_options")
    return Conversation(
        model=text_of(body.get("model")),
        turns=turns,
        tools=tuple(_tool(object_of(each)) for each in list_of(body.get("tools"))),
        tool_mode=mode,
        forced_tool=forced,
        parallel_calls=body.get("parallel_tool_calls") is not False,
        answer_schema=_answer_schema(form),
        json_only=form.get("type") == "json_object",
        tokens_max=_tokens_max(body),
        stop=(stop,)
        if isinstance(stop, str)
        else tuple(mark for each in list_of(stop) if (mark := text_of(each))),
        stream=stream,
        include_usage=options.get("include_usage") is True,
        obfuscate=stream and options.get("include_obfuscation") is not False,
        reasoning_effort=text_of(body.get("reasoning_effort")) or None,
    )


def _turn(message: JsonObject, at: int) -> Turn:
    name = text_of(message.get("role"))
    role = _ROLES.get(name)
    if role is None:
        text = f"Invalid value: '{name}'. Supported roles are: {', '.join(_ROLES)}."
        raise bad_request(text, f"messages[{at}].role")
    text, images = _content(message.get("content"), at)
    calls = tuple(
        _call(object_of(each), at) for each in list_of(message.get("tool_calls"))
    )
    if message.get("content") is None and not calls:
        text = "Invalid value for 'content': expected a string, got null."
        raise bad_request(text, f"messages[{at}].content")
    return Turn(role, text, calls, text_of(message.get("tool_call_id")), images=images)


def _content(content: Json, at: int) -> tuple[str, int]:
    """Return the text of a content and its number of images."""
    if not isinstance(content, list):
        return text_of(content), 0
    texts: list[str] = []
    images = 0
    for each in content:
        part = object_of(each)
        match part.get("type"):
            case "text" | "refusal":
                texts.append(text_of(part.get("text") or part.get("refusal")))
            case "image_url":
                images += 1
            case other:
                message = f"Invalid content part type: {other}"
                raise bad_request(message, f"messages[{at}].content")
    return "\n".join(texts), images


def _call(call: JsonObject, at: int) -> ToolCall:
    function = object_of(call.get("function"))
    call_id, name = text_of(call.get("id")), text_of(function.get("name"))
    if not call_id or not name:
        message = "A tool call needs an 'id' and a 'function.name'."
        raise bad_request(message, f"messages[{at}].tool_calls")
    try:
        arguments: Json = json.loads(text_of(function.get("arguments")) or "{}")
    except ValueError:
        arguments = {}
    return ToolCall(name, object_of(arguments), call_id)


def _tool(tool: JsonObject) -> Tool:
    function = object_of(tool.get("function"))
    name = text_of(function.get("name"))
    if tool.get("type") != "function" or not name:
        message = 'Each tool needs "type": "function" and a \'function.name\'.'
        raise bad_request(message, "tools")
    parameters = object_of(function.get("parameters"))
    if function.get("strict") is True:
        _require_strict(parameters, f"tools.{name}.parameters")
    return Tool(name, text_of(function.get("description")), parameters)


def _tool_choice(choice: Json) -> tuple[ToolMode, str | None]:
    if choice is None:
        return ToolMode.AUTO, None
    if isinstance(choice, str) and choice in _MODES:
        return _MODES[choice], None
    name = text_of(object_of(object_of(choice).get("function")).get("name"))
    if not name:
        message = "Invalid 'tool_choice': use none, auto, required or a function."
        raise bad_request(message, "tool_choice")
    return ToolMode.REQUIRED, name


def _answer_schema(form: JsonObject) -> JsonObject | None:
    if form.get("type") != "json_schema":
        return None
    wanted = object_of(form.get("json_schema"))
    schema = wanted.get("schema")
    if not isinstance(schema, dict) or not text_of(wanted.get("name")):
        message = "'json_schema' needs a 'name' and a 'schema'."
        raise bad_request(message, "response_format.json_schema")
    if wanted.get("strict") is True:
        _require_strict(schema, "response_format.json_schema.schema")
    return schema


def _require_strict(schema: Json, path: str) -> None:
    """Objects of a strict schema forbid other properties and require all theirs."""
    for value in list_of(schema):
        _require_strict(value, path)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object":
        names = set(object_of(schema.get("properties")))
        required = {text_of(each) for each in list_of(schema.get("required"))}
        if schema.get("additionalProperties") is not False or names - required:
            message = (
                "Invalid schema: in strict mode every object needs "
                "'additionalProperties': false and all its properties in 'required'."
            )
            raise bad_request(message, path)
    for value in schema.values():
        _require_strict(value, path)


def _tokens_max(body: JsonObject) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or value < 1:
            message = f"Invalid '{name}': expected an integer of at least 1."
            raise bad_request(message, name)
        return value
    return None
