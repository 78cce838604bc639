"""Anthropic's messages: requests read, messages, events, errors written."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from sandbox.anthropic_request import parse_request
from sandbox.conversation import Conversation, Finish, Sight, Thought
from sandbox.limits import Allowance
from sandbox.payload import (
    Failure,
    FailureKind,
    Json,
    JsonObject,
    bad_request,
    compact,
)
from sandbox.tokens import Piece, PieceKind
from sandbox.wire import Event, Reply, Stage, Telling, Usage

MODELS: Final = ("sandbox-claude", "sandbox-claude-small")
WINDOW: Final = 200_000
CREATED: Final = "2026-01-01T00:00:00Z"
_STOP: Final = {
    Finish.STOP: "end_turn",
    Finish.STOP_SEQUENCE: "stop_sequence",
    Finish.LENGTH: "max_tokens",
    Finish.TOOL_CALLS: "tool_use",
    Finish.REFUSED: "refusal",
}
_FAILURES: Final = {
    FailureKind.BAD_REQUEST: (400, "invalid_request_error"),
    FailureKind.UNAUTHENTICATED: (401, "authentication_error"),
    FailureKind.NO_MODEL: (404, "not_found_error"),
    FailureKind.UNPAID: (402, "billing_error"),
    FailureKind.FORBIDDEN: (403, "permission_error"),
    FailureKind.NOT_FOUND: (404, "not_found_error"),
    FailureKind.TIMED_OUT: (408, "timeout_error"),
    FailureKind.CONFLICT: (409, "conflict_error"),
    FailureKind.TOO_LARGE: (413, "request_too_large"),
    FailureKind.CONTEXT_EXCEEDED: (400, "invalid_request_error"),
    FailureKind.RATE_LIMITED: (429, "rate_limit_error"),
    FailureKind.TOKENS_LIMITED: (429, "rate_limit_error"),
    FailureKind.SPEND_LIMITED: (429, "rate_limit_error"),
    FailureKind.OVERLOADED: (529, "overloaded_error"),
    FailureKind.SERVER_ERROR: (500, "api_error"),
    FailureKind.BAD_GATEWAY: (502, "api_error"),
    FailureKind.UNAVAILABLE: (503, "api_error"),
    FailureKind.GATEWAY_TIMEOUT: (504, "timeout_error"),
}


@dataclass(frozen=True)
class AnthropicWire:
    """The protocol that the anthropic SDK speaks to ``/v1/messages``."""

    name: str = "anthropic"
    models: tuple[str, ...] = MODELS
    lowest_tier: str = "standard"
    caches_by_itself: bool = False

    def too_long(self, prompt_tokens: int) -> Failure | None:
        """Refuse a prompt of more than ``WINDOW`` tokens."""
        if prompt_tokens <= WINDOW:
            return None
        text = f"prompt is too long: {prompt_tokens} tokens > {WINDOW} maximum"
        return Failure(FailureKind.CONTEXT_EXCEEDED, text)

    def key_of(self, headers: Mapping[str, str]) -> str:
        """Return ``x-api-key``, or the bearer token, empty when there is neither."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        bearer = token if scheme.lower() == "bearer" else ""
        return (headers.get("x-api-key") or bearer).strip()

    def parse(self, body: JsonObject, headers: Mapping[str, str]) -> Conversation:
        """Read a request; the version header is mandatory."""
        if "anthropic-version" not in headers:
            message = "anthropic-version: header is required"
            raise bad_request(message, "anthropic-version")
        return parse_request(body)

    def render(self, reply: Reply) -> JsonObject:
        """Write a ``message``."""
        answer = reply.answer
        content: list[Json] = []
        if reply.thought:
            content.append(_thought_block(reply.thought))
        if answer.text:
            content.append({"type": "text", "text": answer.text, "citations": None})
        for index, call in enumerate(answer.calls):
            content.append(
                {**_tool_use(reply, index), "input": call.arguments},
            )
        return {
            **_head(reply),
            "content": content,
            "stop_reason": _STOP[answer.finish],
            "stop_sequence": answer.stopped_by,
            **({"usage": _usage(reply.told)} if reply.told else {}),
        }

    def stream(self, reply: Reply) -> Iterator[Event]:
        """Write the events from ``message_start`` to ``message_stop``."""
        yield _opening(reply)
        spent, block = reply.hidden_tokens, -1
        for piece in reply.pieces():
            if piece.opens:
                if block >= 0:
                    yield _event("content_block_stop", {"index": block}, spent)
                block += 1
                is_whole = piece.kind in (PieceKind.CALL_START, PieceKind.SEALED)
                so_far = piece.tokens_so_far if is_whole else spent
                start = _block(reply, piece)
                opened: JsonObject = {"index": block, "content_block": start}
                yield _event("content_block_start", opened, so_far)
                if block == 0:
                    yield _event("ping", {}, so_far)
            spent = piece.tokens_so_far
            delta = _delta(piece)
            if delta is not None:
                part: JsonObject = {"index": block, "delta": delta}
                yield _event("content_block_delta", part, spent)
        if block >= 0:
            yield _event("content_block_stop", {"index": block}, spent)
        yield from _ending(reply, spent)

    def stream_failure(self, failure: Failure, request_id: str) -> bytes:
        """Write ``event: error``, as it comes after a 200."""
        _, envelope = self.render_failure(failure, request_id)
        return f"event: error\ndata: {compact(envelope)}\n\n".encode()

    def render_failure(
        self, failure: Failure, request_id: str
    ) -> tuple[int, JsonObject]:
        """Return the status and ``{"type": "error", …}``."""
        status, kind = _FAILURES[failure.kind]
        error: JsonObject = {"type": kind, "message": failure.message}
        if failure.kind is FailureKind.SPEND_LIMITED:
            error["details"] = {"error_code": "enforced_spend_limit_reached"}
        return status, {"type": "error", "error": error, "request_id": request_id}

    def headers(self, request_id: str, allowance: Allowance) -> dict[str, str]:
        """Return Anthropic's headers; resets are RFC 3339."""
        reset = datetime.fromtimestamp(allowance.reset_at, UTC)
        moment = reset.strftime("%Y-%m-%dT%H:%M:%SZ")
        headers = {
            "request-id": request_id,
            "anthropic-organization-id": "sandbox",
            "anthropic-ratelimit-requests-limit": str(allowance.requests_limit),
            "anthropic-ratelimit-requests-remaining": str(
                max(allowance.requests_left, 0)
            ),
            "anthropic-ratelimit-requests-reset": moment,
        }
        for kind in ("tokens", "input-tokens", "output-tokens"):
            name = f"anthropic-ratelimit-{kind}"
            headers[f"{name}-limit"] = str(allowance.tokens_limit)
            headers[f"{name}-remaining"] = str(max(allowance.tokens_left, 0))
            headers[f"{name}-reset"] = moment
        return headers

    def model_list(self) -> JsonObject:
        """Write ``GET /v1/models``."""
        return {
            "data": [self.model_entry(model) for model in self.models],
            "has_more": False,
            "first_id": self.models[0],
            "last_id": self.models[-1],
        }

    def model_entry(self, model: str) -> JsonObject:
        """Write one model."""
        return {
            "type": "model",
            "id": model,
            "display_name": f"{model} (sandbox)",
            "created_at": CREATED,
            "lifecycle": "active",
        }


def _opening(reply: Reply) -> Event:
    """Write ``message_start``: the input's usage, and a placeholder for the output."""
    message: JsonObject = {
        **_head(reply),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
    told = reply.told
    if told and reply.telling is Telling.LOOKALIKE:
        message["usage"] = {"input_tokens": told.input_tokens, "output_tokens": 0}
    elif told:
        message["usage"] = _usage(replace(told, output_tokens=1, reasoning_tokens=0))
    return _event("message_start", {"message": message}, 0, Stage.OPENING)


def _block(reply: Reply, piece: Piece) -> JsonObject:
    match piece.kind:
        case PieceKind.CALL_START:
            return {**_tool_use(reply, piece.call_index), "input": {}}
        case PieceKind.SEALED:
            return {"type": "redacted_thinking", "data": piece.text}
        case PieceKind.THINKING | PieceKind.SIGNATURE:
            return {"type": "thinking", "thinking": "", "signature": ""}
        case PieceKind.TEXT | PieceKind.CALL_ARGUMENTS:
            return {"type": "text", "text": ""}


def _thought_block(thought: Thought) -> JsonObject:
    if thought.sight is Sight.REDACTED:
        return {"type": "redacted_thinking", "data": thought.seal}
    text = "" if thought.sight is Sight.OMITTED else thought.text
    return {"type": "thinking", "thinking": text, "signature": thought.seal}


def _delta(piece: Piece) -> JsonObject | None:
    match piece.kind:
        case PieceKind.TEXT:
            return {"type": "text_delta", "text": piece.text}
        case PieceKind.CALL_ARGUMENTS:
            return {"type": "input_json_delta", "partial_json": piece.text}
        case PieceKind.THINKING:
            return {"type": "thinking_delta", "thinking": piece.text}
        case PieceKind.SIGNATURE:
            return {"type": "signature_delta", "signature": piece.text}
        case PieceKind.CALL_START | PieceKind.SEALED:
            return None


def _ending(reply: Reply, spent: int) -> Iterator[Event]:
    """Write the cumulative usage with the stop reason, then the stop."""
    delta: JsonObject = {
        "stop_reason": _STOP[reply.answer.finish],
        "stop_sequence": reply.answer.stopped_by,
    }
    final: JsonObject = {"delta": delta}
    told = reply.told
    if told:
        usage = _usage(told)
        del usage["cache_creation"], usage["service_tier"]
        final["usage"] = usage
    ending, reported = Stage.ENDING, told is not None
    if reply.telling is Telling.TWICE:
        nothing: JsonObject = {"stop_reason": None, "stop_sequence": None}
        yield _event("message_delta", {**final, "delta": nothing}, spent, ending)
    yield _event("message_delta", final, spent, ending, reports_usage=reported)
    yield _event("message_stop", {}, spent, ending, reports_usage=reported)


def _head(reply: Reply) -> JsonObject:
    return {
        "id": f"msg_{reply.request_id.removeprefix('req_')}",
        "type": "message",
        "role": "assistant",
        "model": reply.conversation.model,
    }


def _tool_use(reply: Reply, index: int) -> JsonObject:
    return {
        "type": "tool_use",
        "id": f"toolu_{reply.request_id.removeprefix('req_')}{index:02}",
        "name": reply.answer.calls[index].name,
    }


def _event(
    kind: str,
    body: JsonObject,
    so_far: int,
    stage: Stage = Stage.CONTENT,
    *,
    reports_usage: bool = False,
) -> Event:
    text = f"event: {kind}\ndata: {compact({'type': kind, **body})}\n\n"
    return Event(text.encode(), so_far, stage, reports_usage)


def _usage(usage: Usage) -> JsonObject:
    """Input tokens exclude what the cache read or wrote."""
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    counts: JsonObject = {
        "input_tokens": usage.input_tokens - cached,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": (
                usage.cache_write_tokens - usage.cache_write_1h_tokens
            ),
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.output_tokens,
        "service_tier": "standard",
    }
    if usage.reasoning_tokens:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return counts
