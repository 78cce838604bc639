"""
An answer as the messages API's events.

One content block is open at a time, so a piece of another part closes it, except
that a call is only closed once its arguments are whole JSON: until then pieces of
later parts wait for the end, which has them all. Text that goes on after its block
was closed opens another one.
"""

from typing import Final

import orjson

from contracts.completions import Completion
from contracts.frames import ReasoningDelta, TextDelta, ToolCallDelta
from contracts.message import JsonObject
from contracts.problems import Problem
from gateway.domain.anthropic_answer import ending, message_id, usage_of
from gateway.domain.anthropic_error import anthropic_error
from gateway.domain.question import Question
from gateway.domain.told import Contradicted, Delta, Told

PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'


class AnthropicStream:
    """
    One answer on its way; every method returns bytes to send at once.

    Args:
        question: What was asked.
        request_id: For errors.
    """

    def __init__(self, question: Question, request_id: str | None) -> None:
        self._question = question
        self._request_id = request_id
        self._told = Told()
        self._has_begun = False
        self._index = -1
        """The newest block's."""
        self._open: int | None = None
        """The part whose block is open."""
        self._arguments: list[str] | None = None
        """What the open call has said so far; None when no call is open."""
        self._calls: set[int] = set()
        """Parts that are calls and were begun."""
        self._waiting: set[int] = set()
        """Parts that only the end tells."""

    def ping(self) -> bytes:
        """Return the event that says that the work goes on."""
        return self._begin() + PING

    def delta(self, delta: Delta) -> bytes:
        """Return the next piece; nothing when it has to wait for the end."""
        if delta.part in self._waiting or not self._may_tell(delta):
            self._waiting.add(delta.part)
            return b""
        return self._begin() + self._tell(delta)

    def finish(self, completion: Completion) -> bytes:
        """
        Return what is left, the end and the counts.

        Raises:
            Contradicted: Other pieces were told than the answer has.
        """
        events = [self._begin()]
        # The open part first: its block cannot be opened again.
        rest = sorted(
            self._told.rest(completion.parts), key=lambda each: each.part != self._open
        )
        events.extend(self._tell(each) for each in rest)
        events.append(self._close())
        usage = usage_of(completion.usage, completion.service_tier)
        delta = ending(completion)
        end: JsonObject = {"type": "message_delta", "delta": delta, "usage": usage}
        events.append(_event(end))
        events.append(_event({"type": "message_stop"}))
        return b"".join(events)

    def failure(self, problem: Problem) -> bytes:
        """Return an error after the stream has begun; no ``message_stop`` follows."""
        return _event(anthropic_error(problem, self._request_id))

    def _begin(self) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        request = self._question.request
        message: JsonObject = {
            "id": message_id(request.completion_id),
            "type": "message",
            "role": "assistant",
            "model": request.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            # The counts are known at the end; the last ones replace these.
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        return _event({"type": "message_start", "message": message})

    def _may_tell(self, delta: Delta) -> bool:
        if delta.part == self._open:
            return True
        if self._arguments is not None and not _is_whole("".join(self._arguments)):
            return False
        if isinstance(delta, ToolCallDelta):
            return delta.call_id is not None and delta.name is not None
        return True

    def _tell(self, delta: Delta) -> bytes:
        self._told.note(delta)
        if delta.part == self._open:
            return self._piece(delta)
        closing = self._close()
        self._open = delta.part
        self._index += 1
        return closing + self._start(delta) + self._piece(delta)

    def _start(self, delta: Delta) -> bytes:
        content: JsonObject
        match delta:
            case TextDelta():
                content = {"type": "text", "text": "", "citations": None}
            case ReasoningDelta() if delta.redacted is not None:
                content = {"type": "redacted_thinking", "data": delta.redacted}
            case ReasoningDelta():
                content = {"type": "thinking", "thinking": "", "signature": ""}
            case ToolCallDelta():
                if delta.part in self._calls:
                    raise Contradicted
                self._calls.add(delta.part)
                self._arguments = []
                content = {
                    "type": "tool_use",
                    "id": delta.call_id or "",
                    "name": delta.name or "",
                    "input": {},
                }
        return _event(
            {
                "type": "content_block_start",
                "index": self._index,
                "content_block": content,
            }
        )

    def _piece(self, delta: Delta) -> bytes:
        match delta:
            case TextDelta():
                return self._delta({"type": "text_delta", "text": delta.text})
            case ReasoningDelta():
                return self._reasoning(delta)
            case ToolCallDelta():
                if not delta.arguments:
                    return b""
                if self._arguments is not None:
                    self._arguments.append(delta.arguments)
                return self._delta(
                    {"type": "input_json_delta", "partial_json": delta.arguments}
                )

    def _reasoning(self, delta: ReasoningDelta) -> bytes:
        said = b""
        if delta.text:
            said = self._delta({"type": "thinking_delta", "thinking": delta.text})
        if delta.signature:
            signed = {"type": "signature_delta", "signature": delta.signature}
            said += self._delta(dict(signed))
        return said

    def _delta(self, delta: JsonObject) -> bytes:
        return _event(
            {"type": "content_block_delta", "index": self._index, "delta": delta}
        )

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = self._arguments = None
        return _event({"type": "content_block_stop", "index": self._index})


def _is_whole(arguments: str) -> bool:
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return False
    return True


def _event(body: JsonObject) -> bytes:
    kind = str(body["type"]).encode()
    return b"event: " + kind + b"\ndata: " + orjson.dumps(body) + b"\n\n"
