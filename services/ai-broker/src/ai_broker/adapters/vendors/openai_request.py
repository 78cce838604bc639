"""
A completion request as chat completions' JSON.

A cache mark needs no field here: OpenAI caches every long enough prefix by itself.
Reasoning without a signature goes back as ``reasoning_content``, where compatible
vendors that show their reasoning want it; signed reasoning is Anthropic's alone.
"""

import base64
from collections.abc import Iterator
from typing import Final, assert_never

from ai_broker.adapters.vendors.refusal import require_known, unsupported
from contracts.completions import (
    ChatTurn,
    CompletionRequest,
    DocumentPart,
    ImagePart,
    OutputSchema,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolChoice,
    ToolMode,
    ToolResultPart,
    ToolSpec,
)
from contracts.message import Json, JsonObject

PROTOCOL: Final = "OpenAI"
STOPS_MAX: Final = 4
EXTRAS: Final = frozenset(
    {
        "logit_bias",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "store",
        "verbosity",
        "web_search_options",
    }
)


def body_of(request: CompletionRequest, model: str) -> JsonObject:
    """
    Return the request body, streaming with usage.

    Raises:
        PermanentFault: The protocol cannot do what a field asks.
    """
    require_known(PROTOCOL, request.extra, EXTRAS)
    messages: list[Json] = []
    for at, turn in enumerate(request.turns):
        messages.extend(_messages(turn, f"turns[{at}]"))
    body: JsonObject = {
        **request.extra,
        "model": model,
        "messages": messages,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        body["tools"] = [_tool(each) for each in request.tools]
        body |= _tool_choice(request.tool_choice)
    if request.output_schema is not None:
        body["response_format"] = _response_format(request.output_schema)
    if request.stop:
        if len(request.stop) > STOPS_MAX:
            raise unsupported(PROTOCOL, "stop", f"give at most {STOPS_MAX} texts")
        body["stop"] = list(request.stop)
    if request.metadata:
        body["metadata"] = dict(request.metadata)
    optional: JsonObject = {
        "max_completion_tokens": request.output_tokens_max,
        "user": request.user,
        "service_tier": request.service_tier,
        **_sampling(request),
        "reasoning_effort": _effort(request),
    }
    return body | {name: value for name, value in optional.items() if value is not None}


def _sampling(request: CompletionRequest) -> JsonObject:
    sampling = request.sampling
    if sampling.top_k is not None:
        raise unsupported(PROTOCOL, "sampling.top_k", "use top_p")
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "logprobs": sampling.logprobs,
        "top_logprobs": sampling.top_logprobs,
    }


def _effort(request: CompletionRequest) -> str | None:
    if request.reasoning is None:
        return None
    if request.reasoning.effort is None and request.reasoning.tokens_max is not None:
        raise unsupported(PROTOCOL, "reasoning.tokens_max", "use reasoning.effort")
    return request.reasoning.effort


def _tool(tool: ToolSpec) -> JsonObject:
    function: JsonObject = {"name": tool.name, "parameters": tool.parameters}
    if tool.description:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice) -> JsonObject:
    fields: JsonObject = {}
    if choice.parallel is not None:
        fields["parallel_tool_calls"] = choice.parallel
    match choice.mode:
        case ToolMode.AUTO:
            pass
        case ToolMode.NONE | ToolMode.REQUIRED:
            fields["tool_choice"] = choice.mode.value
        case ToolMode.NAMED:
            named: JsonObject = {"name": choice.name or ""}
            fields["tool_choice"] = {"type": "function", "function": named}
        case _:
            assert_never(choice.mode)
    return fields


def _response_format(schema: OutputSchema) -> JsonObject:
    return {
        "type": "json_schema",
        "json_schema": {
            "name": schema.name,
            "schema": schema.json_schema,
            "strict": schema.strict,
        },
    }


def _messages(turn: ChatTurn, path: str) -> Iterator[JsonObject]:
    """Return a turn's messages: one per tool result, and one for the rest."""
    rest: list[Json] = []
    calls: list[Json] = []
    reasoning: list[str] = []
    for at, part in enumerate(turn.parts):
        where = f"{path}.parts[{at}]"
        match part:
            case ToolResultPart():
                yield _tool_result(part, where)
            case ToolCallPart():
                calls.append(_call(part))
            case ReasoningPart():
                reasoning.append(_unsigned(part, where))
            case _:
                rest.append(_content_part(part, where))
    if not (rest or calls or reasoning):
        return
    role = Role.USER if turn.role is Role.TOOL else turn.role
    message: JsonObject = {"role": role.value, "content": _content(rest)}
    if calls:
        message["tool_calls"] = calls
    if reasoning:
        message["reasoning_content"] = "".join(reasoning)
    if turn.name is not None:
        message["name"] = turn.name
    yield message


def _unsigned(part: ReasoningPart, where: str) -> str:
    if part.signature is not None or part.redacted is not None:
        hint = "signed reasoning goes back to the vendor that signed it"
        raise unsupported(PROTOCOL, where, hint)
    return part.text


def _content_part(
    part: TextPart | RefusalPart | ImagePart | DocumentPart, where: str
) -> JsonObject:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case RefusalPart():
            return {"type": "refusal", "refusal": part.text}
        case ImagePart():
            return _image(part)
        case DocumentPart():
            return _document(part, where)
        case _:
            assert_never(part)


def _content(parts: list[Json]) -> Json:
    """Return one text as a string, which every compatible vendor understands."""
    match parts:
        case []:
            return None
        case [{"type": "text", "text": text}]:
            return text
        case _:
            return parts


def _call(part: ToolCallPart) -> JsonObject:
    function: JsonObject = {"name": part.name, "arguments": part.arguments}
    return {"id": part.call_id, "type": "function", "function": function}


def _tool_result(part: ToolResultPart, where: str) -> JsonObject:
    content: list[Json] = []
    if part.is_error:
        # The protocol has no mark for a failure, so the text says it first.
        content.append({"type": "text", "text": "The tool failed:"})
    for each in part.content:
        if isinstance(each, ImagePart):
            hint = "tool results are text; send the image in a user turn"
            raise unsupported(PROTOCOL, f"{where}.content", hint)
        content.append({"type": "text", "text": each.text})
    text = _content(content)
    empty = "" if text is None else text
    return {"role": "tool", "tool_call_id": part.call_id, "content": empty}


def _image(part: ImagePart) -> JsonObject:
    url = part.url or data_url(part.media_type or "image/png", part.data or b"")
    image: JsonObject = {"url": url}
    if part.detail is not None:
        image["detail"] = part.detail
    return {"type": "image_url", "image_url": image}


def _document(part: DocumentPart, where: str) -> JsonObject:
    if part.data is None:
        raise unsupported(PROTOCOL, f"{where}.url", "send the document's data")
    file: JsonObject = {
        "filename": part.name or "document",
        "file_data": data_url(part.media_type, part.data),
    }
    return {"type": "file", "file": file}


def data_url(media_type: str, data: bytes) -> str:
    """Return bytes as a URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
