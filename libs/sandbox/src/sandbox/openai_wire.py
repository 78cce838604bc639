"""OpenAI's chat completions: requests read, answers, chunks, errors written."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from sandbox import embeddings
from sandbox.conversation import Conversation, Finish
from sandbox.limits import Allowance
from sandbox.openai_logprobs import logprobs
from sandbox.openai_request import OPEN_REASONER, REASONER, parse_request
from sandbox.payload import Failure, FailureKind, Json, JsonObject, compact, text_of
from sandbox.tokens import Piece, PieceKind
from sandbox.wire import Event, Reply, Stage, Telling, Usage

CHAT_MODELS: Final = ("sandbox-small", "sandbox-large", REASONER, OPEN_REASONER)
PADDED_TO: Final = 16
SECOND_MS: Final = 1000
WINDOW: Final = 128_000
CREATED: Final = 1_767_225_600
_FINISH: Final = {
    Finish.STOP: "stop",
    Finish.STOP_SEQUENCE: "stop",
    Finish.LENGTH: "length",
    Finish.TOOL_CALLS: "tool_calls",
    Finish.REFUSED: "content_filter",
}
_FAILURES: Final = {
    FailureKind.BAD_REQUEST: (400, "invalid_request_error", None),
    FailureKind.UNAUTHENTICATED: (401, "invalid_request_error", "invalid_api_key"),
    FailureKind.NO_MODEL: (404, "invalid_request_error", "model_not_found"),
    FailureKind.UNPAID: (402, "invalid_request_error", "billing_not_active"),
    FailureKind.FORBIDDEN: (403, "invalid_request_error", "forbidden"),
    FailureKind.NOT_FOUND: (404, "invalid_request_error", "unknown_url"),
    FailureKind.TIMED_OUT: (408, "server_error", "request_timeout"),
    FailureKind.CONFLICT: (409, "invalid_request_error", "conflict"),
    FailureKind.TOO_LARGE: (413, "invalid_request_error", "request_too_large"),
    FailureKind.CONTEXT_EXCEEDED: (
        400,
        "invalid_request_error",
        "context_length_exceeded",
    ),
    FailureKind.RATE_LIMITED: (429, "requests", "rate_limit_exceeded"),
    FailureKind.TOKENS_LIMITED: (429, "tokens", "rate_limit_exceeded"),
    FailureKind.SPEND_LIMITED: (429, "insufficient_quota", "insufficient_quota"),
    FailureKind.OVERLOADED: (529, "server_error", "overloaded"),
    FailureKind.SERVER_ERROR: (500, "server_error", None),
    FailureKind.BAD_GATEWAY: (502, "server_error", "bad_gateway"),
    FailureKind.UNAVAILABLE: (503, "server_error", "service_unavailable"),
    FailureKind.GATEWAY_TIMEOUT: (504, "server_error", "timeout"),
}


@dataclass(frozen=True)
class OpenAIWire:
    """The protocol that the openai SDK speaks to ``/v1/chat/completions``."""

    name: str = "openai"
    models: tuple[str, ...] = CHAT_MODELS
    lowest_tier: str = "default"
    caches_by_itself: bool = True

    def too_long(self, prompt_tokens: int) -> Failure | None:
        """Refuse a prompt of more than ``WINDOW`` tokens."""
        if prompt_tokens <= WINDOW:
            return None
        text = (
            f"This model's maximum context length is {WINDOW} tokens. However, your "
            f"messages resulted in {prompt_tokens} tokens. Please reduce the length "
            "of the messages."
        )
        return Failure(FailureKind.CONTEXT_EXCEEDED, text, "messages")

    def key_of(self, headers: Mapping[str, str]) -> str:
        """Return the bearer token, empty when there is none."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return key.strip() if scheme.lower() == "bearer" else ""

    def parse(self, body: JsonObject, headers: Mapping[str, str]) -> Conversation:  # noqa: ARG002
        """Read a request."""
        return parse_request(body)

    def render(self, reply: Reply) -> JsonObject:
        """Write a ``chat.completion``."""
        answer = reply.answer
        message: JsonObject = {
            "role": "assistant",
            "content": answer.text or (None if answer.calls else ""),
            "refusal": None,
            "annotations": [],
        }
        if reply.thought:
            message["reasoning_content"] = reply.thought.text
        if answer.calls:
            message["tool_calls"] = [
                {
                    "id": call_id(reply, index),
                    "type": "function",
                    "function": {
                        "name": call.name,
                        "arguments": compact(call.arguments),
                    },
                }
                for index, call in enumerate(answer.calls)
            ]
        return {
            **_head(reply, "chat.completion"),
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "logprobs": _logprobs(reply, answer.text),
                    "finish_reason": _FINISH[answer.finish],
                }
            ],
            **({"usage": _usage(reply, reply.told)} if reply.told else {}),
        }

    def stream(self, reply: Reply) -> Iterator[Event]:
        """Write ``chat.completion.chunk`` events, usage if asked, and ``[DONE]``."""
        chunks, answer = _Chunks(reply), reply.answer
        opening: JsonObject = {"role": "assistant", "refusal": None}
        opening["content"] = None if answer.calls and not answer.text else ""
        spent = reply.hidden_tokens
        yield chunks.one(opening, spent, Stage.OPENING)
        for piece in reply.pieces():
            spent = piece.tokens_so_far
            yield chunks.one(_delta(reply, piece), spent)
        finish = _FINISH[answer.finish]
        yield chunks.one({}, spent, Stage.ENDING, finish)
        told = reply.told if reply.conversation.include_usage else None
        if told and reply.telling is not Telling.LOOKALIKE:
            yield chunks.usage(told, spent)
        done, reported = b"data: [DONE]\n\n", told is not None
        yield Event(done, spent, Stage.ENDING, reports_usage=reported)

    def stream_failure(self, failure: Failure, request_id: str) -> bytes:
        """Write an error chunk, as it comes after a 200."""
        _, envelope = self.render_failure(failure, request_id)
        return f"data: {compact(envelope)}\n\n".encode()

    def render_failure(
        self,
        failure: Failure,
        request_id: str,  # noqa: ARG002 - OpenAI names it in a header only
    ) -> tuple[int, JsonObject]:
        """Return the status and ``{"error": …}``."""
        status, kind, code = _FAILURES[failure.kind]
        return status, {
            "error": {
                "message": failure.message,
                "type": kind,
                "param": failure.param,
                "code": code,
            }
        }

    def headers(self, request_id: str, allowance: Allowance) -> dict[str, str]:
        """Return OpenAI's headers; resets are durations."""
        reset = duration(allowance.reset_s)
        return {
            "x-request-id": request_id,
            "openai-version": "2020-10-01",
            "openai-organization": "sandbox",
            "openai-processing-ms": "1",
            "x-ratelimit-limit-requests": str(allowance.requests_limit),
            "x-ratelimit-remaining-requests": str(max(allowance.requests_left, 0)),
            "x-ratelimit-reset-requests": reset,
            "x-ratelimit-limit-tokens": str(allowance.tokens_limit),
            "x-ratelimit-remaining-tokens": str(max(allowance.tokens_left, 0)),
            "x-ratelimit-reset-tokens": reset,
        }

    def model_list(self) -> JsonObject:
        """Write ``GET /v1/models``."""
        names = (*self.models, *embeddings.MODELS)
        entries: list[Json] = [self.model_entry(name) for name in names]
        return {"object": "list", "data": entries}

    def model_entry(self, model: str) -> JsonObject:
        """Write one model."""
        return {
            "id": model,
            "object": "model",
            "created": CREATED,
            "owned_by": "sandbox",
        }


def duration(seconds: float) -> str:
    """Write a time as OpenAI does: ``12ms``, ``1.5s``, ``6m0s``; never too short."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < SECOND_MS:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60 * SECOND_MS)
    shown = f"{rest / SECOND_MS:g}s"
    return f"{minutes}m{shown}" if minutes else shown


def call_id(reply: Reply, index: int) -> str:
    """Return the id of a tool call, unique over all replies."""
    return f"call_{reply.request_id.removeprefix('req_')}{index:02}"


def _head(reply: Reply, kind: str) -> JsonObject:
    seed = reply.conversation.seed
    return {
        "id": f"chatcmpl-{reply.request_id.removeprefix('req_')}",
        "object": kind,
        "created": reply.created,
        "model": reply.conversation.model,
        "service_tier": reply.conversation.service_tier,
        "system_fingerprint": "sandbox" if seed is None else f"sandbox_{seed}",
    }


def _logprobs(reply: Reply, text: str) -> JsonObject | None:
    alternatives = reply.conversation.logprobs
    if alternatives is None or not text:
        return None
    return logprobs(text, alternatives)


class _Chunks:
    """The chunks of one stream: one head, one rule of telling the usage."""

    def __init__(self, reply: Reply) -> None:
        # The head is the same on every chunk: it is put into JSON once.
        self._head = compact(_head(reply, "chat.completion.chunk"))[:-1]
        self._reply = reply

    def one(
        self,
        delta: JsonObject,
        so_far: int,
        stage: Stage = Stage.CONTENT,
        finish: str | None = None,
    ) -> Event:
        """Write a chunk with its one choice."""
        reply = self._reply
        choice: JsonObject = {
            "index": 0,
            "delta": delta,
            "logprobs": _logprobs(reply, text_of(delta.get("content"))),
            "finish_reason": finish,
        }
        body: JsonObject = {"choices": [choice]}
        told, in_choice = reply.told, False
        if reply.conversation.include_usage and told:
            body["usage"] = None
            if reply.telling is Telling.TWICE:
                body["usage"] = _usage(reply, replace(told, output_tokens=so_far))
            elif reply.telling is Telling.LOOKALIKE:
                in_choice = finish is not None
                del body["usage"]
        if in_choice and told:
            choice["usage"] = _usage(reply, told)
        data = self._data(body, pads=reply.conversation.obfuscate)
        return Event(data, so_far, stage, reports_usage=in_choice)

    def usage(self, told: Usage, so_far: int) -> Event:
        """Write the last chunk, which has no choice."""
        is_null = self._reply.telling is Telling.NULL_CHOICES
        body: JsonObject = {"choices": None if is_null else []}
        body["usage"] = _usage(self._reply, told)
        return Event(self._data(body), so_far, Stage.ENDING, reports_usage=True)

    def _data(self, body: JsonObject, *, pads: bool = False) -> bytes:
        """Join head and body, padded so that its length tells little of the text."""
        text = compact(body)
        if pads:
            padding = "0" * (PADDED_TO - len(text) % PADDED_TO)
            text = f'{text[:-1]},"obfuscation":"{padding}"}}'
        return f"data: {self._head},{text[1:]}\n\n".encode()


def _delta(reply: Reply, piece: Piece) -> JsonObject:
    index = piece.call_index
    match piece.kind:
        case PieceKind.TEXT:
            return {"content": piece.text}
        case PieceKind.CALL_START:
            function: JsonObject = {"name": piece.text, "arguments": ""}
            start: JsonObject = {"index": index, "id": call_id(reply, index)}
            start |= {"type": "function", "function": function}
            return {"tool_calls": [start]}
        case PieceKind.CALL_ARGUMENTS:
            part: JsonObject = {"index": index, "function": {"arguments": piece.text}}
            return {"tool_calls": [part]}
        case PieceKind.THINKING | PieceKind.SIGNATURE | PieceKind.SEALED:
            return {"reasoning_content": piece.text}


def _usage(reply: Reply, usage: Usage) -> JsonObject:
    total = usage.input_tokens + usage.output_tokens
    counts: JsonObject = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": total,
    }
    if reply.telling is Telling.LOOKALIKE:
        return {**counts, "cached_tokens": usage.cache_read_tokens}
    counts["prompt_tokens_details"] = {
        "cached_tokens": usage.cache_read_tokens,
        "audio_tokens": 0,
    }
    counts["completion_tokens_details"] = {
        "reasoning_tokens": usage.reasoning_tokens,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    }
    return counts
