"""OpenAI's chat completions: requests read, answers, chunks, errors written."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sandbox import tokens
from sandbox.conversation import Conversation, Finish, ToolCall
from sandbox.limits import Allowance
from sandbox.openai_request import parse_request
from sandbox.payload import Failure, FailureKind, Json, JsonObject, compact
from sandbox.tokens import PieceKind
from sandbox.wire import Event, Reply

MODELS: Final = ("sandbox-small", "sandbox-large")
CREATED: Final = 1_767_225_600
_FINISH: Final = {
    Finish.STOP: "stop",
    Finish.STOP_SEQUENCE: "stop",
    Finish.LENGTH: "length",
    Finish.TOOL_CALLS: "tool_calls",
}
_FAILURES: Final = {
    FailureKind.BAD_REQUEST: (400, "invalid_request_error", None),
    FailureKind.UNAUTHENTICATED: (401, "invalid_request_error", "invalid_api_key"),
    FailureKind.NO_MODEL: (404, "invalid_request_error", "model_not_found"),
    FailureKind.NOT_FOUND: (404, "invalid_request_error", "unknown_url"),
    FailureKind.TOO_LARGE: (413, "invalid_request_error", "request_too_large"),
    FailureKind.RATE_LIMITED: (429, "requests", "rate_limit_exceeded"),
    FailureKind.OVERLOADED: (529, "server_error", "overloaded"),
    FailureKind.SERVER_ERROR: (500, "server_error", None),
    FailureKind.UNAVAILABLE: (503, "server_error", "service_unavailable"),
}


@dataclass(frozen=True)
class OpenAIWire:
    """The protocol that the openai SDK speaks to ``/v1/chat/completions``."""

    name: str = "openai"
    models: tuple[str, ...] = MODELS

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
                    "logprobs": None,
                    "finish_reason": _FINISH[answer.finish],
                }
            ],
            "usage": _usage(reply),
        }

    def stream(self, reply: Reply) -> Iterator[Event]:
        """Write ``chat.completion.chunk`` events, usage if asked, and ``[DONE]``."""
        asked = reply.conversation.include_usage
        head = _head(reply, "chat.completion.chunk")
        last: JsonObject = {"usage": None} if asked else {}
        calls = reply.answer.calls

        def chunk(delta: JsonObject, so_far: int, finish: str | None = None) -> Event:
            choice: JsonObject = {
                "index": 0,
                "delta": delta,
                "logprobs": None,
                "finish_reason": finish,
            }
            body: JsonObject = {**head, "choices": [choice], **last}
            if reply.conversation.obfuscate:
                body["obfuscation"] = "0" * (16 - len(compact(delta)) % 16)
            return _event(body, so_far)

        opening: JsonObject = {"role": "assistant", "refusal": None}
        opening["content"] = None if calls and not reply.answer.text else ""
        spent = reply.usage.reasoning_tokens
        yield chunk(opening, spent)
        for piece in tokens.pieces(reply.answer, spent):
            spent = piece.tokens_so_far
            match piece.kind:
                case PieceKind.TEXT:
                    yield chunk({"content": piece.text}, spent)
                case PieceKind.CALL_START:
                    start = _call_start(reply, piece.call_index, calls)
                    yield chunk({"tool_calls": [start]}, spent)
                case PieceKind.CALL_ARGUMENTS:
                    part: JsonObject = {
                        "index": piece.call_index,
                        "function": {"arguments": piece.text},
                    }
                    yield chunk({"tool_calls": [part]}, spent)
        yield chunk({}, spent, _FINISH[reply.answer.finish])
        if asked:
            usage: JsonObject = {**head, "choices": [], "usage": _usage(reply)}
            yield _event(usage, spent, reports_usage=True)
        yield Event(b"data: [DONE]\n\n", spent, reports_usage=asked)

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
        reset = f"{allowance.reset_s:.3f}s"
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
        entries: list[Json] = [self.model_entry(model) for model in self.models]
        return {"object": "list", "data": entries}

    def model_entry(self, model: str) -> JsonObject:
        """Write one model."""
        return {
            "id": model,
            "object": "model",
            "created": CREATED,
            "owned_by": "sandbox",
        }


def call_id(reply: Reply, index: int) -> str:
    """Return the id of a tool call, unique over all replies."""
    return f"call_{reply.request_id.removeprefix('req_')}{index:02}"


def _head(reply: Reply, kind: str) -> JsonObject:
    return {
        "id": f"chatcmpl-{reply.request_id.removeprefix('req_')}",
        "object": kind,
        "created": reply.created,
        "model": reply.conversation.model,
        "service_tier": "default",
        "system_fingerprint": "sandbox",
    }


def _event(body: JsonObject, so_far: int, *, reports_usage: bool = False) -> Event:
    return Event(f"data: {compact(body)}\n\n".encode(), so_far, reports_usage)


def _call_start(reply: Reply, index: int, calls: tuple[ToolCall, ...]) -> JsonObject:
    return {
        "index": index,
        "id": call_id(reply, index),
        "type": "function",
        "function": {"name": calls[index].name, "arguments": ""},
    }


def _usage(reply: Reply) -> JsonObject:
    usage = reply.usage
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
