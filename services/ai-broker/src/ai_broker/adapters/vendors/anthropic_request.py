"""A completion request as the messages API's JSON, streaming."""

from typing import Final, assert_never

from ai_broker.adapters.vendors.anthropic_turns import cache_mark, messages_of, split
from ai_broker.adapters.vendors.refusal import Fit
from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.quirks import Thinking
from contracts.completions import CompletionRequest, ToolChoice, ToolMode, ToolSpec
from contracts.message import JsonObject

TEMPERATURE_MAX: Final = 1.0
THINKING_TOKENS_MIN: Final = 1_024
TIERS: Final = frozenset({"auto", "standard_only"})
EXTRAS: Final = frozenset({"cache_control", "inference_geo", "speed", "thinking"})
"""``thinking`` is what the canonical budget cannot say: adaptive, how it is shown."""


def body_of(request: CompletionRequest, candidate: Candidate, fit: Fit) -> JsonObject:
    """
    Return the request body.

    Raises:
        PermanentFault: The vendor cannot do what a field asks.
    """
    system, turns = split(request.turns, fit)
    thinking = _thinking(request, fit)
    body: JsonObject = {
        "model": candidate.model,
        "max_tokens": _tokens_max(request, candidate, thinking, fit),
        "messages": messages_of(turns, len(request.turns) - len(turns), fit),
        "stream": True,
    }
    if system:
        body["system"] = system
    if request.tools:
        body["tools"] = [_tool(each, fit) for each in request.tools]
        body |= _tool_choice(request.tool_choice, fit)
    if request.stop and fit.takes("stop"):
        body["stop_sequences"] = list(request.stop)
    if request.user is not None and fit.takes("user"):
        body["metadata"] = {"user_id": request.user}
    if request.metadata:
        fit.leave_out("metadata", "it takes a user id alone: give user")
    if request.service_tier in TIERS and fit.takes("service_tier"):
        body["service_tier"] = request.service_tier
    elif request.service_tier is not None:
        fit.leave_out("service_tier", f"use one of {', '.join(sorted(TIERS))}")
    body |= thinking
    body |= _output_config(request, fit)
    body |= _sampling(request, fit)
    return body | fit.own_fields(request.extra, EXTRAS)


def _tokens_max(
    request: CompletionRequest, candidate: Candidate, thinking: JsonObject, fit: Fit
) -> int:
    """Return the limit, which the protocol wants and which covers the thinking."""
    longest, asked = candidate.output_tokens_max, request.output_tokens_max
    if asked is None:
        wanted = request.reasoning.tokens_max if thinking and request.reasoning else 0
        most = candidate.output_tokens_default + (wanted or 0)
        return min(most, longest) if longest is not None else most
    if longest is not None and asked > longest:
        fit.leave_out("output_tokens_max", f"give at most {longest}")
        return longest
    return asked


def _sampling(request: CompletionRequest, fit: Fit) -> JsonObject:
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
            fit.leave_out(f"sampling.{name}", "leave it out")
    given: JsonObject = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
    }
    if sampling.temperature is not None and sampling.temperature > TEMPERATURE_MAX:
        fit.leave_out("sampling.temperature", "give at most 1")
        del given["temperature"]
    return {
        name: value
        for name, value in given.items()
        if value is not None and fit.takes(f"sampling.{name}")
    }


def _output_config(request: CompletionRequest, fit: Fit) -> JsonObject:
    config: JsonObject = {}
    if request.output_schema is not None and fit.takes("output_schema"):
        schema = request.output_schema.json_schema
        config["format"] = {"type": "json_schema", "schema": schema}
    effort = request.reasoning.effort if request.reasoning else None
    if effort is not None and effort != "none" and fit.takes("reasoning.effort"):
        config["effort"] = effort
    return {"output_config": config} if config else {}


def _thinking(request: CompletionRequest, fit: Fit) -> JsonObject:
    """Return how to think: within a number of tokens, or as the model sees fit."""
    wanted = request.reasoning
    if wanted is None or (wanted.effort is None and wanted.tokens_max is None):
        return {}
    if wanted.effort == "none":
        return {"thinking": {"type": "disabled"}}
    match fit.quirks.thinking or Thinking.BUDGET:
        case Thinking.BUDGET:
            return {} if wanted.tokens_max is None else _budget(request, fit)
        case Thinking.ADAPTIVE:
            if wanted.effort is None:
                fit.leave_out("reasoning.tokens_max", "use reasoning.effort")
            return {"thinking": {"type": "adaptive"}}
        case _:
            fit.leave_out("reasoning", "use a model that can be told to think")
            return {}


def _budget(request: CompletionRequest, fit: Fit) -> JsonObject:
    budget = request.reasoning.tokens_max if request.reasoning else None
    limit = request.output_tokens_max
    if budget is None or budget < THINKING_TOKENS_MIN:
        fit.leave_out("reasoning.tokens_max", f"give at least {THINKING_TOKENS_MIN}")
        return {}
    if limit is not None and budget >= limit:
        fit.leave_out("reasoning.tokens_max", "give less than output_tokens_max")
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _tool(tool: ToolSpec, fit: Fit) -> JsonObject:
    written: JsonObject = {"name": tool.name, "input_schema": tool.parameters}
    if tool.description:
        written["description"] = tool.description
    if tool.strict is not None and fit.takes("tools.strict"):
        written["strict"] = tool.strict
    return written | cache_mark(tool.cache)


def _tool_choice(choice: ToolChoice, fit: Fit) -> JsonObject:
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
    if choice.parallel is not None and fit.takes("tool_choice.parallel"):
        written["disable_parallel_tool_use"] = not choice.parallel
    return {"tool_choice": written}
