"""
A completion request as chat completions' JSON, streaming with usage.

A cache mark needs no field at OpenAI: it caches every long enough prefix by itself.
Where a vendor departs from OpenAI, its quirks say how.
"""

from typing import Final, assert_never

import orjson

from ai_broker.adapters.vendors.openai_turns import messages_of
from ai_broker.adapters.vendors.refusal import Fit
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.quirks import SchemaMode, Thinking
from contracts.completions import (
    CompletionRequest,
    OutputSchema,
    ToolChoice,
    ToolMode,
    ToolSpec,
)
from contracts.message import Json, JsonObject

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
_JSON_MODE: Final[Json] = {"type": "json_object"}


def body_of(request: CompletionRequest, candidate: Candidate, fit: Fit) -> JsonObject:
    """
    Return the request body.

    Raises:
        PermanentFault: The vendor cannot do what a field asks.
    """
    messages: list[Json] = []
    for at, turn in enumerate(request.turns):
        messages.extend(messages_of(turn, f"turns[{at}]", fit))
    body: JsonObject = {"model": candidate.model, "messages": messages, "stream": True}
    if fit.quirks.stream_usage:
        body["stream_options"] = {"include_usage": True}
    if request.tools:
        body["tools"] = [_tool(each, fit) for each in request.tools]
        body |= _tool_choice(request.tool_choice, fit)
    body |= _output(request, messages, fit)
    body |= _thinking(request, fit)
    body |= _stop(request, fit)
    body |= _limit(request, candidate, fit)
    if request.metadata and fit.takes("metadata"):
        body["metadata"] = dict(request.metadata)
    for field, name, value in _optional(request, fit):
        if value is not None and fit.takes(field):
            body[name] = value
    return body


def _optional(request: CompletionRequest, fit: Fit) -> list[tuple[str, str, Json]]:
    """Return (request field, vendor field, value) of what is handed on as it is."""
    sampling = request.sampling
    return [
        ("user", "user", request.user),
        ("service_tier", "service_tier", request.service_tier),
        ("sampling.temperature", "temperature", sampling.temperature),
        ("sampling.top_p", "top_p", sampling.top_p),
        ("sampling.top_k", "top_k", _top_k(request, fit)),
        ("sampling.seed", "seed", sampling.seed),
        (
            "sampling.frequency_penalty",
            "frequency_penalty",
            sampling.frequency_penalty,
        ),
        ("sampling.presence_penalty", "presence_penalty", sampling.presence_penalty),
        ("sampling.logprobs", "logprobs", sampling.logprobs),
        ("sampling.top_logprobs", "top_logprobs", sampling.top_logprobs),
    ]


def _top_k(request: CompletionRequest, fit: Fit) -> int | None:
    """Return the cut-off, which is no field of OpenAI's but of some that follow it."""
    top_k = request.sampling.top_k
    if top_k is None or "top_k" in fit.quirks.extras:
        return top_k
    fit.leave_out("sampling.top_k", "use top_p")
    return None


def _limit(request: CompletionRequest, candidate: Candidate, fit: Fit) -> JsonObject:
    longest, asked = candidate.output_tokens_max, request.output_tokens_max
    if asked is None:
        return {}
    if longest is not None and asked > longest:
        fit.leave_out("output_tokens_max", f"give at most {longest}")
        asked = longest
    return {fit.quirks.output_limit_field: asked}


def _stop(request: CompletionRequest, fit: Fit) -> JsonObject:
    if not request.stop or not fit.takes("stop"):
        return {}
    most = fit.quirks.stops_max or STOPS_MAX
    if len(request.stop) > most:
        fit.leave_out("stop", f"give at most {most} texts")
    return {"stop": list(request.stop[:most])}


def _output(request: CompletionRequest, messages: list[Json], fit: Fit) -> JsonObject:
    """Return the extra fields and the shape of the answer."""
    extra = dict(request.extra)
    # JSON without a schema has no canonical form; the doors hand on OpenAI's own.
    is_json = extra.get("response_format") == _JSON_MODE
    if is_json:
        del extra["response_format"]
    body = fit.own_fields(extra, EXTRAS)
    if request.output_schema is not None:
        return body | _shape(request.output_schema, messages, fit)
    if is_json and fit.quirks.schema_mode is SchemaMode.NONE:
        fit.leave_out("extra.response_format", "say in words that JSON is wanted")
    elif is_json:
        body["response_format"] = _JSON_MODE
    return body


def _shape(schema: OutputSchema, messages: list[Json], fit: Fit) -> JsonObject:
    if not fit.takes("output_schema"):
        return {}
    match fit.quirks.schema_mode:
        case SchemaMode.SCHEMA:
            wanted: JsonObject = {
                "name": schema.name,
                "schema": schema.json_schema,
                "strict": schema.strict,
            }
            return {"response_format": {"type": "json_schema", "json_schema": wanted}}
        case SchemaMode.OBJECT:
            if schema.strict:
                hint = "it only writes JSON: give strict false and check the answer"
                fit.leave_out("output_schema.strict", hint)
            written = orjson.dumps(schema.json_schema).decode()
            text = f"Answer with one JSON object that fits this JSON Schema: {written}"
            messages.append({"role": fit.quirks.system_role, "content": text})
            return {"response_format": _JSON_MODE}
        case SchemaMode.NONE:
            fit.leave_out("output_schema", "say in words what the answer looks like")
            return {}
        case _:
            assert_never(fit.quirks.schema_mode)


def _thinking(request: CompletionRequest, fit: Fit) -> JsonObject:
    """Return how to think; effort and a number of tokens are two words for one."""
    wanted = request.reasoning
    if wanted is None or (wanted.effort is None and wanted.tokens_max is None):
        return {}
    effort, tokens, on = wanted.effort, wanted.tokens_max, wanted.effort != "none"
    way = fit.quirks.thinking or Thinking.EFFORT
    match way:
        case Thinking.EFFORT:
            if effort is None:
                fit.leave_out("reasoning.tokens_max", "use reasoning.effort")
            elif fit.takes("reasoning.effort"):
                return {"reasoning_effort": effort}
            return {}
        case Thinking.REASONING:
            if effort is not None:
                return {"reasoning": {"effort": effort}}
            return {"reasoning": {"max_tokens": tokens}}
        case Thinking.QWEN:
            body: JsonObject = {"enable_thinking": on}
            return body if tokens is None else body | {"thinking_budget": tokens}
        case Thinking.SWITCH:
            return {"thinking": {"type": "enabled" if on else "disabled"}}
        case Thinking.NONE | Thinking.BUDGET | Thinking.ADAPTIVE:
            fit.leave_out("reasoning", "use a model that can be told to think")
            return {}
        case _:
            assert_never(way)


def _tool(tool: ToolSpec, fit: Fit) -> JsonObject:
    function: JsonObject = {"name": tool.name, "parameters": tool.parameters}
    if tool.description:
        function["description"] = tool.description
    if tool.strict is not None and fit.takes("tools.strict"):
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice, fit: Fit) -> JsonObject:
    fields: JsonObject = {}
    if choice.parallel is not None and fit.takes("tool_choice.parallel"):
        fields["parallel_tool_calls"] = choice.parallel
    match choice.mode:
        case ToolMode.AUTO:
            pass
        case ToolMode.NONE | ToolMode.REQUIRED:
            if choice.mode.value in fit.quirks.tool_modes:
                fields["tool_choice"] = choice.mode.value
            else:
                fit.leave_out("tool_choice.mode", "use auto")
        case ToolMode.NAMED:
            named: JsonObject = {"name": choice.name or ""}
            if choice.mode.value in fit.quirks.tool_modes:
                fields["tool_choice"] = {"type": "function", "function": named}
            else:
                fit.leave_out("tool_choice.mode", "use auto")
        case _:
            assert_never(choice.mode)
    return fields
