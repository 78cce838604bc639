"""An answer on its way to its reader, as a whole or in pieces."""

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import orjson
from starlette.responses import Response

from contracts.completions import Completion
from contracts.frames import Answerer, Ping
from contracts.message import JsonObject
from contracts.problems import Code, ErrorEnvelope, problem
from contracts.rates import RateStanding
from gateway.domain.answer_stream import AnswerStream
from gateway.domain.question import Asked
from gateway.domain.told import Contradicted
from gateway.entrypoints.dialect import Dialect, dialect_of, request_id
from gateway.entrypoints.middleware import Receive, Scope, Send
from gateway.entrypoints.problems import respond
from gateway.entrypoints.rate_headers import rate_headers
from gateway.handlers.completions import Asking, Piece, broken
from gateway.ports import Deps

Q = TypeVar("Q", bound=Asked)

OK: Final = 200
PINGS_BEFORE_START: Final = 4
"""A stream that is silent for so long begins without content: proxies give up."""
EVENTS: Final = "text/event-stream; charset=utf-8"

Headers = list[tuple[bytes, bytes]]


class Reply(Generic[Q]):
    """
    Answers one question.

    Args:
        question: What is asked.
        deps: Ports.
        whole: Writes an answer in one piece.
        stream: Writes it in pieces; None when it is wanted whole.
        has_key: Whether the caller chose the completion's id.
    """

    def __init__(
        self,
        question: Q,
        deps: Deps,
        whole: Callable[[Completion, Q], JsonObject],
        stream: AnswerStream | None,
        *,
        has_key: bool,
    ) -> None:
        self._question = question
        self._whole = whole
        self._stream = stream
        self._has_key = has_key
        self._asking = Asking(question.request, deps)
        self._clock = deps.clock
        self._pings = 0
        self._has_begun = False
        self._is_left = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask, and answer; a reader that leaves ends the vendor's call."""

        async def tell(piece: Piece) -> None:
            if self._stream is not None and not self._is_left:
                await self._tell(self._stream, piece, scope, send)

        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(self._until_left(receive))
            outcome = await self._asking.run(tell)
            leaving.cancel()
        if self._is_left:
            return
        if isinstance(outcome, ErrorEnvelope):
            await self._fail(outcome, scope, receive, send)
        elif self._stream is not None:
            await self._finish(self._stream, outcome, scope, send)
        else:
            body = orjson.dumps(self._whole(outcome, self._question))
            headers = self._headers(scope, b"application/json", outcome)
            headers.append((b"content-length", str(len(body)).encode()))
            await _start(send, headers)
            await send({"type": "http.response.body", "body": body})

    async def _until_left(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._is_left = True
        await self._asking.give_up()

    async def _tell(
        self, stream: AnswerStream, piece: Piece, scope: Scope, send: Send
    ) -> None:
        if isinstance(piece, Ping):
            self._pings += 1
            if not self._has_begun and self._pings < PINGS_BEFORE_START:
                # Until the stream begins, a failure can have its own status.
                return
            chunk = stream.ping()
        else:
            chunk = stream.delta(piece)
        if chunk:
            await self._begin(scope, send, None)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _finish(
        self, stream: AnswerStream, completion: Completion, scope: Scope, send: Send
    ) -> None:
        try:
            chunk = stream.finish(completion)
        except Contradicted:
            detail = "the answer is not the one that was begun; ask again"
            chunk = stream.failure(problem(Code.STREAM_CUT, detail))
        await self._begin(scope, send, completion)
        await send({"type": "http.response.body", "body": chunk})

    async def _fail(
        self, envelope: ErrorEnvelope, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if self._stream is not None and self._has_begun:
            chunk = self._stream.failure(broken(envelope).problem)
            await send({"type": "http.response.body", "body": chunk})
            return
        response = self._refusal(envelope, scope)
        rates = envelope.rates or self._asking.rates
        response.headers.update(self._rate_headers(scope, rates))
        response.headers["x-de-completion-id"] = self._question.request.completion_id
        await response(scope, receive, send)

    def _refusal(self, envelope: ErrorEnvelope, scope: Scope) -> Response:
        found = envelope.problem
        if found.code is Code.CONFLICT and self._has_key:
            detail = (
                "this Idempotency-Key was used for another request: use a new key, or "
                "repeat the first request unchanged"
            )
            found = problem(Code.IDEMPOTENCY_MISMATCH, detail)
        return respond(
            found, scope, envelope.retry_after_s, retryable=envelope.retryable
        )

    async def _begin(
        self, scope: Scope, send: Send, completion: Completion | None
    ) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        headers = self._headers(scope, EVENTS.encode(), completion)
        headers.append((b"x-accel-buffering", b"no"))
        await _start(send, headers)

    def _headers(
        self, scope: Scope, media_type: bytes, completion: Completion | None
    ) -> Headers:
        """Return the head; what answered is told when it is known by now."""
        completion_id = self._question.request.completion_id
        headers: Headers = [
            (b"content-type", media_type),
            (b"cache-control", b"no-store"),
            (b"x-de-completion-id", completion_id.encode()),
        ]
        found = request_id()
        if found is not None:
            is_anthropic = dialect_of(scope) is Dialect.ANTHROPIC
            name = b"request-id" if is_anthropic else b"x-request-id"
            headers.append((name, found.encode()))
        rates = self._rate_headers(scope, self._asking.rates)
        headers += [(name.encode(), value.encode()) for name, value in rates.items()]
        if completion is not None:
            headers += _answered_by(completion)
        elif self._asking.answerer is not None:
            headers += _answering(self._asking.answerer)
        return headers

    def _rate_headers(
        self, scope: Scope, rates: tuple[RateStanding, ...] | None
    ) -> dict[str, str]:
        return rate_headers(rates, dialect_of(scope), self._clock.now())


def _answering(by: Answerer | Completion) -> Headers:
    headers: Headers = [
        (b"x-de-vendor", _printable(by.vendor)),
        (b"x-de-model", _printable(by.model)),
    ]
    if by.is_cached:
        headers.append((b"x-de-cache", b"hit"))
    return headers


def _answered_by(completion: Completion) -> Headers:
    headers = _answering(completion)
    headers.append((b"x-de-attempts", str(len(completion.attempts)).encode()))
    if completion.dropped:
        headers.append((b"x-de-dropped", _printable(", ".join(completion.dropped))))
    return headers


def _printable(text: str) -> bytes:
    """Return a header's value: vendors name their models, and could break a line."""
    if text.isascii() and text.isprintable():
        return text.encode()
    return "".join(x if x.isascii() and x.isprintable() else "?" for x in text).encode()


async def _start(send: Send, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": OK, "headers": headers})
