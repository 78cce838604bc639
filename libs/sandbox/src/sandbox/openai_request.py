"""Read and check a chat-completions request as strictly as OpenAI does."""

from typing import Final

from sandbox.conversation import (
    Conversation,
    Sight,
    Thinking,
    Tool,
    ToolMode,
    require_paired_calls,
)
from sandbox.openai_content import read_turn
from sandbox.payload import Json, JsonObject, bad_request, list_of, object_of, text_of

REASONER: Final = "sandbox-reasoner"
"""Thinks unseen, as much as the effort says; takes what OpenAI's reasoners take."""
OPEN_REASONER: Final = "sandbox-open-reasoner"
"""Shows its thinking as ``reasoning_content``, as DeepSeek and lookalikes do."""
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
TIERS: Final = ("auto", "default", "flex", "priority")
STOPS_MAX: Final = 4
TOP_LOGPROBS_MAX: Final = 20
EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
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
    turns = tuple(read_turn(object_of(each), at) for at, each in enumerate(messages))
    require_paired_calls(turns)
    form = object_of(body.get("response_format"))
    mode, forced = _tool_choice(body.get("tool_choice"))
    options = object_of(body.get("stream_options"))
    stop = _stop(body)
    stream = body.get("stream") is True
    if options and not stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is on."
        raise bad_request(message, "stream_options")
    model = text_of(body.get("model"))
    effort = _effort(body, model)
    return Conversation(
        model=model,
        turns=turns,
        tools=tuple(_tool(object_of(each)) for each in list_of(body.get("tools"))),
        tool_mode=mode,
        forced_tool=forced,
        parallel_calls=body.get("parallel_tool_calls") is not False,
        answer_schema=_answer_schema(form),
        json_only=form.get("type") == "json_object",
        tokens_max=_tokens_max(body),
        stop=stop,
        stream=stream,
        include_usage=options.get("include_usage") is True,
        obfuscate=stream and options.get("include_obfuscation") is not False,
        reasoning_effort=effort,
        thinking=_thinking(model, effort),
        logprobs=_logprobs(body),
        service_tier=_tier(body),
        seed=seed if isinstance(seed := body.get("seed"), int) else None,
    )


def _stop(body: JsonObject) -> tuple[str, ...]:
    stop = body.get("stop")
    marks = (stop,) if isinstance(stop, str) else tuple(map(text_of, list_of(stop)))
    if len(marks) > STOPS_MAX or not all(marks):
        message = f"Invalid 'stop': expected up to {STOPS_MAX} non-empty strings."
        raise bad_request(message, "stop")
    return marks


def _logprobs(body: JsonObject) -> int | None:
    top = body.get("top_logprobs")
    if body.get("logprobs") is not True:
        if top:
            message = "The 'top_logprobs' parameter needs 'logprobs': true."
            raise bad_request(message, "top_logprobs")
        return None
    if top is not None and not (isinstance(top, int) and 0 <= top <= TOP_LOGPROBS_MAX):
        message = f"Invalid 'top_logprobs': expected 0 to {TOP_LOGPROBS_MAX}."
        raise bad_request(message, "top_logprobs")
    return top or 0


def _tier(body: JsonObject) -> str:
    """Return the tier that the answer is billed by."""
    tier = text_of(body.get("service_tier"), "auto")
    if tier not in TIERS:
        message = f"Invalid 'service_tier': use one of {', '.join(TIERS)}."
        raise bad_request(message, "service_tier")
    return "default" if tier == "auto" else tier


def _effort(body: JsonObject, model: str) -> str | None:
    """Return the effort asked for; a reasoner has one of its own, and its limits."""
    effort = text_of(body.get("reasoning_effort")) or None
    if effort is not None and effort not in EFFORTS:
        message = (
            f"Invalid value: '{effort}'. Supported values are: {', '.join(EFFORTS)}."
        )
        raise bad_request(message, "reasoning_effort")
    if model != REASONER:
        return effort
    for name, instead in (
        ("max_tokens", "Use 'max_completion_tokens' instead."),
        ("logprobs", "Leave it out."),
    ):
        if body.get(name):
            message = (
                f"Unsupported parameter: '{name}' is not supported with this model. "
                f"{instead}"
            )
            raise bad_request(message, name)
    if body.get("temperature") not in (None, 1):
        message = (
            "Unsupported value: 'temperature' does not support this value with this "
            "model. Only the default (1) value is supported."
        )
        raise bad_request(message, "temperature")
    return effort or "medium"


def _thinking(model: str, effort: str | None) -> Thinking | None:
    if model != OPEN_REASONER or effort == "none":
        return None
    return Thinking(Sight.PLAIN)


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
