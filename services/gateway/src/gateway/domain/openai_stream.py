"""
An answer as chat completion chunks.

Chunks before the last name the model that was asked for, since who answers is only
known at the end; the last ones name the one that answered. Log probabilities come
with the finish, all at once.
"""

from typing import Final, assert_never

import orjson

from contracts.completions import Completion
from contracts.frames import ReasoningDelta, TextDelta, ToolCallDelta
from contracts.message import Json, JsonObject
from contracts.problems import Problem
from gateway.domain.openai_answer import (
    chat_id,
    finish_reason,
    reasoning_details,
    refusal_of,
    tier,
    usage_of,
)
from gateway.domain.openai_error import openai_error
from gateway.domain.question import Question
from gateway.domain.told import Delta, Told

PING: Final = b": ping\n\n"
DONE: Final = b"data: [DONE]\n\n"
ROLE: Final[JsonObject] = {"role": "assistant", "content": "", "refusal": None}


class OpenAIStream:
    """
    One answer on its way; every method returns bytes to send at once.

    Args:
        question: What was asked.
        created: Seconds since the epoch, the same on every chunk.
    """

    def __init__(self, question: Question, created: int) -> None:
        self._wants_usage = question.wants_usage
        self._head: JsonObject = {
            "id": chat_id(question.request.completion_id),
            "object": "chat.completion.chunk",
            "created": created,
            "model": question.request.model,
        }
        self._told = Told()
        self._calls: dict[int, int] = {}
        """Part → its place among the calls."""
        self._has_begun = False

    def ping(self) -> bytes:
        """Return a comment, which every reader of events skips."""
        return PING

    def delta(self, delta: Delta) -> bytes:
        """Return the next piece."""
        self._told.note(delta)
        return self._begin() + self._chunk(self._piece(delta))

    def finish(self, completion: Completion) -> bytes:
        """
        Return what is left, the end and the counts.

        Raises:
            Contradicted: Other pieces were told than the answer has.
        """
        rest = [self.delta(each) for each in self._told.rest(completion.parts)]
        self._head["model"] = completion.model
        self._head["service_tier"] = tier(completion.service_tier)
        last: JsonObject = {}
        refusal = refusal_of(completion.parts)
        if refusal is not None:
            last["refusal"] = refusal
        details = reasoning_details(completion.parts)
        if details:
            last["reasoning_details"] = details
        reason = finish_reason(completion)
        end = self._chunk(last, finish=reason, logprobs=completion.logprobs)
        chunks = [*rest, self._begin(), end]
        if self._wants_usage:
            usage = usage_of(completion.usage)
            chunks.append(_event({**self._head, "choices": [], "usage": usage}))
        return b"".join((*chunks, DONE))

    def failure(self, problem: Problem) -> bytes:
        """Return an error after the stream has begun; no ``[DONE]`` follows."""
        return _event(openai_error(problem))

    def _begin(self) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        return self._chunk(ROLE)

    def _piece(self, delta: Delta) -> JsonObject:
        match delta:
            case TextDelta():
                return {"content": delta.text}
            case ReasoningDelta():
                # Signatures and sealed reasoning come with the end.
                return {"reasoning_content": delta.text} if delta.text else {}
            case ToolCallDelta():
                return {"tool_calls": [self._call(delta)]}
            case _:
                assert_never(delta)

    def _call(self, delta: ToolCallDelta) -> JsonObject:
        function: JsonObject = {"arguments": delta.arguments}
        call: JsonObject = {
            "index": self._calls.setdefault(delta.part, len(self._calls)),
            "function": function,
        }
        if delta.call_id is not None:
            call |= {"id": delta.call_id, "type": "function"}
        if delta.name is not None:
            function["name"] = delta.name
        return call

    def _chunk(
        self, delta: JsonObject, *, finish: str | None = None, logprobs: Json = None
    ) -> bytes:
        choice: JsonObject = {
            "index": 0,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish,
        }
        chunk: JsonObject = {**self._head, "choices": [choice]}
        if self._wants_usage:
            chunk["usage"] = None
        return _event(chunk)


def _event(body: JsonObject) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
