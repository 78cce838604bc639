"""
OpenAI's and Anthropic's front doors: bare ASGI, since every call pays for it.

FastAPI's dependencies and response models cost more here than the translation does.
What is refused before an answer begins is raised and becomes the vendor's envelope
like every other problem; afterwards the stream itself says what went wrong.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from starlette.routing import Match, Route

import telemetry
from contracts.completions import Completion
from contracts.message import JsonObject
from contracts.problems import Code, ErrorEnvelope, Problem
from gateway.domain.answer_stream import AnswerStream
from gateway.domain.fields import Unfit
from gateway.domain.keys import Principal
from gateway.domain.question import Asked, Asker, completion_id_for
from gateway.entrypoints.documents import json_of
from gateway.entrypoints.door_headers import DoorHeaders, read_headers
from gateway.entrypoints.door_reply import Reply
from gateway.entrypoints.middleware import Receive, Scope, Send
from gateway.handlers.tasks import require_tenant
from gateway.handlers.tenants import identify
from gateway.ports import Deps
from messaging.refusals import Refused, refuse

Q = TypeVar("Q", bound=Asked)

RETRY_AFTER_S = 1.0


@dataclass(frozen=True)
class Tongue(Generic[Q]):
    """One vendor's protocol."""

    read: Callable[[object, Asker], Q]
    """Body → question; raises ``Unfit``."""
    unfit: Callable[[Unfit], Problem]
    """What does not fit, in the vendor's words."""
    whole: Callable[[Completion, Q], JsonObject]
    """An answer in one piece."""
    stream: Callable[[Q, int], AnswerStream] | None
    """
    An answer in pieces; the number is the time in seconds since the epoch.

    None where the protocol has no such thing.
    """


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one question may cost."""

    completion_s: float
    """The longest that an answer may take."""
    tools_max: int
    """Tools of one question."""


class Door(Generic[Q]):
    """
    One compatible endpoint.

    Args:
        tongue: The vendor's protocol.
        bounds: What one question may cost.
        slots: One for each question under way; when none is free, overloaded.
    """

    def __init__(
        self, tongue: Tongue[Q], bounds: Bounds, slots: asyncio.Semaphore
    ) -> None:
        self._tongue = tongue
        self._bounds = bounds
        self._slots = slots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        deps: Deps = scope["app"].state.deps
        headers = read_headers(scope["headers"])
        principal = await identify(headers.api_key, deps)
        tenant = require_tenant(principal)
        telemetry.set_attributes({"tenant": tenant})
        if self._slots.locked():
            raise _overloaded()
        async with self._slots:
            asker = self._asker(tenant, principal, headers, deps)
            # LimitBody has read it whole.
            question = self._read((await receive()).get("body", b""), asker)
            stream = None
            if self._tongue.stream is not None and question.is_streamed:
                stream = self._tongue.stream(question, int(asker.now.timestamp()))
            reply = Reply(
                question,
                deps,
                self._tongue.whole,
                stream,
                has_key=headers.idempotency_key is not None,
            )
            await reply(scope, receive, send)

    def _asker(
        self, tenant: str, principal: Principal, headers: DoorHeaders, deps: Deps
    ) -> Asker:
        longest_s = self._bounds.completion_s
        streamed_s = min(headers.timeout_s or longest_s, longest_s)
        key = headers.idempotency_key
        cache_ttl_s = headers.cache_ttl_s
        if cache_ttl_s is None:
            cache_ttl_s = principal.cache_ttl_s
        return Asker(
            tenant=tenant,
            api_key_id=principal.key_id,
            completion_id=(
                deps.ids.new("cmpl") if key is None else completion_id_for(tenant, key)
            ),
            now=deps.clock.now(),
            streamed_s=streamed_s,
            # Nothing comes before the end, so the SDK's patience is the deadline.
            whole_s=min(streamed_s, headers.sdk_timeout_s or streamed_s),
            drop_unsupported=headers.drop_unsupported,
            cache_ttl_s=cache_ttl_s or None,
            tools_max=self._bounds.tools_max,
        )

    def _read(self, body: bytes, asker: Asker) -> Q:
        try:
            return self._tongue.read(json_of(body), asker)
        except Unfit as unfit:
            problem = self._tongue.unfit(unfit)
            raise Refused(ErrorEnvelope(problem=problem)) from unfit


class DoorRoute(Route):
    """A route of a bare application that metrics know by its template."""

    # Any: Starlette's scopes are mappings of anything.
    def matches(self, scope: Scope) -> tuple[Match, dict[str, Any]]:
        """Match as any route does, and note which one it was."""
        match, found = super().matches(scope)
        return match, {**found, "route": self}


def _overloaded() -> Refused:
    detail = "as many answers are under way as this gateway takes: try again"
    return refuse(Code.OVERLOADED, detail, retryable=True)
