"""A completion request as the messages API's JSON."""

import base64
from collections.abc import Sequence
from typing import Final, assert_never

import orjson

from ai_broker.adapters.vendors.refusal import require_known, unsupported
from ai_broker.domain.catalogue import Candidate
from contracts.completions import (
    CacheLife,
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
    ToolChoice,
    ToolMode,
    ToolResultPart,
    ToolSpec,
)
from contracts.message import Json, JsonObject

PROTOCOL: Final = "Anthropic"
TEMPERATURE_MAX: Final = 1.0
TIERS: Final = frozenset({"auto", "standard_only"})
EXTRAS: Final = frozenset({"cache_control", "inference_geo", "speed"})


def body_of(request: CompletionRequest, candidate: Candidate) -> JsonObject:
    """
    Return the request body.

    Sampling fields stand under ``extra_body``: the SDK no longer names them, while
    the API takes them for the models that sample.

    Raises:
        PermanentFault: The protocol cannot do what a field asks.
    """
    require_known(PROTOCOL, request.extra, EXTRAS)
    system, turns = _split(request.turns)
    body: JsonObject = {
        **request.extra,
        "model": candidate.model,
        "max_tokens": _tokens_max(request, candidate),
        "messages": _messages(turns, len(request.turns) - len(turns)),
    }
    if system:
        body["system"] = system
    if request.tools:
        body["tools"] = [_tool(each) for each in request.tools]
        body |= _tool_choice(request.tool_choice)
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.user is not None:
        body["metadata"] = {"user_id": request.user}
    if request.service_tier is not None:
        if request.service_tier not in TIERS:
            hint = f"use one of {', '.join(sorted(TIERS))}"
            raise unsupported(PROTOCOL, "service_tier", hint)
        body["service_tier"] = request.service_tier
    return body | _output_config(request) | _thinking(request) | _sampling(request)


def _tokens_max(request: CompletionRequest, candidate: Candidate) -> int:
    thinking = request.reasoning.tokens_max if request.reasoning else None
    if request.output_tokens_max is None:
        return candidate.output_tokens_default + (thinking or 0)
    if thinking is not None and thinking >= request.output_tokens_max:
        hint = "it must be less than output_tokens_max"
        raise unsupported(PROTOCOL, "reasoning.tokens_max", hint)
    return request.output_tokens_max


def _sampling(request: CompletionRequest) -> JsonObject:
    sampling = request.sampling
    absent: JsonObject = {
        "seed": sampling.seed,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "logprobs": sampling.logprobs or None,
        "top_logprobs": sampling.top_logprobs,
    }
    for name, value in absent.items():
        if value is not None:
            raise unsupported(PROTOCOL, f"sampling.{name}", "leave it out")
    if sampling.temperature is not None and sampling.temperature > TEMPERATURE_MAX:
        hint = "give at most 1"
        raise unsupported(PROTOCOL, "sampling.temperature", hint)
    given: JsonObject = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
    }
    sent: JsonObject = {
        name: value for name, value in given.items() if value is not None
    }
    return {"extra_body": sent} if sent else {}


def _output_config(request: CompletionRequest) -> JsonObject:
    config: JsonObject = {}
    if request.output_schema is not None:
        schema = request.output_schema.json_schema
        config["format"] = {"type": "json_schema", "schema": schema}
    if request.reasoning is not None and request.reasoning.effort is not None:
        config["effort"] = request.reasoning.effort
    return {"output_config": config} if config else {}


def _thinking(request: CompletionRequest) -> JsonObject:
    if request.reasoning is None or request.reasoning.tokens_max is None:
        return {}
    budget = request.reasoning.tokens_max
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _tool(tool: ToolSpec) -> JsonObject:
    written: JsonObject = {"name": tool.name, "input_schema": tool.parameters}
    if tool.description:
        written["description"] = tool.description
    if tool.strict is not None:
        written["strict"] = tool.strict
    return written | _cache(tool.cache)


def _tool_choice(choice: ToolChoice) -> JsonObject:
    written: JsonObject
    match choice.mode:
        case ToolMode.AUTO:
            if choice.parallel is None:
                return {}
            written = {"type": "auto"}
        case ToolMode.NONE:
            return {"tool_choice": {"type": "none"}}
        case ToolMode.REQUIRED:
            written = {"type": "any"}
        case ToolMode.NAMED:
            written = {"type": "tool", "name": choice.name or ""}
        case _:
            assert_never(choice.mode)
    if choice.parallel is not None:
        written["disable_parallel_tool_use"] = not choice.parallel
    return {"tool_choice": written}


def _split(turns: Sequence[ChatTurn]) -> tuple[list[Json], Sequence[ChatTurn]]:
    """Take the leading system turns out: they have a field of their own."""
    system: list[Json] = []
    for at, turn in enumerate(turns):
        if turn.role is not Role.SYSTEM:
            return system, turns[at:]
        for part_at, part in enumerate(turn.parts):
            system.append(_block(part, f"turns[{at}].parts[{part_at}]"))
    raise unsupported(PROTOCOL, "turns", "give at least one that is not the system's")


def _messages(turns: Sequence[ChatTurn], first: int) -> list[Json]:
    """Return messages whose roles alternate: neighbours of one role are joined."""
    messages: list[tuple[str, list[Json]]] = []
    for at, turn in enumerate(turns, first):
        role = "user" if turn.role is Role.TOOL else turn.role.value
        path = f"turns[{at}]"
        blocks: list[Json] = [
            _block(part, f"{path}.parts[{number}]")
            for number, part in enumerate(turn.parts)
        ]
        if messages and messages[-1][0] == role:
            messages[-1][1].extend(blocks)
        elif blocks:
            messages.append((role, blocks))
    return [{"role": role, "content": blocks} for role, blocks in messages]


def _block(part: Part, where: str) -> JsonObject:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text} | _cache(part.cache)
        case RefusalPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            return _image(part, where) | _cache(part.cache)
        case DocumentPart():
            return _document(part) | _cache(part.cache)
        case ReasoningPart():
            return _reasoning(part, where)
        case ToolCallPart():
            use: JsonObject = {"type": "tool_use", "id": part.call_id}
            return use | {"name": part.name, "input": _input(part.arguments)}
        case ToolResultPart():
            return _tool_result(part, where) | _cache(part.cache)
        case _:
            assert_never(part)


def _reasoning(part: ReasoningPart, where: str) -> JsonObject:
    if part.redacted is not None:
        return {"type": "redacted_thinking", "data": part.redacted}
    if part.signature is None:
        hint = "reasoning goes back only with the vendor's signature; leave it out"
        raise unsupported(PROTOCOL, where, hint)
    return {
        "type": "thinking",
        "thinking": part.text,
        "signature": part.signature,
    }


def _input(arguments: str) -> Json:
    """
    Return a call's arguments as an object.

    What the model wrote and is no JSON object goes back inside one, as Anthropic
    advises, so that the model can see its mistake.
    """
    try:
        parsed: Json = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"INVALID_JSON": arguments}


def _tool_result(part: ToolResultPart, where: str) -> JsonObject:
    content: list[Json] = []
    for number, each in enumerate(part.content):
        if not (isinstance(each, TextPart) and not each.text):
            content.append(_block(each, f"{where}.content[{number}]"))
    result: JsonObject = {
        "type": "tool_result",
        "tool_use_id": part.call_id,
        "content": content,
    }
    if part.is_error:
        result["is_error"] = True
    return result


def _image(part: ImagePart, where: str) -> JsonObject:
    if part.detail not in {None, "auto"}:
        raise unsupported(PROTOCOL, f"{where}.detail", "leave it out")
    return {"type": "image", "source": _source(part, part.media_type or "image/png")}


def _document(part: DocumentPart) -> JsonObject:
    source: JsonObject
    if part.media_type.startswith("text/") and part.data is not None:
        text = part.data.decode("utf-8", "replace")
        source = {"type": "text", "media_type": "text/plain", "data": text}
    else:
        source = _source(part, part.media_type)
    document: JsonObject = {"type": "document", "source": source}
    if part.name is not None:
        document["title"] = part.name
    return document


def _source(part: ImagePart | DocumentPart, media_type: str) -> JsonObject:
    if part.url is not None:
        return {"type": "url", "url": part.url}
    data = base64.b64encode(part.data or b"").decode()
    return {"type": "base64", "media_type": media_type, "data": data}


def _cache(life: CacheLife | None) -> JsonObject:
    match life:
        case None:
            return {}
        case CacheLife.FIVE_MINUTES:
            return {"cache_control": {"type": "ephemeral"}}
        case CacheLife.ONE_HOUR:
            return {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
        case _:
            assert_never(life)
