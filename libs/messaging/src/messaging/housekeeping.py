"""
What every service answers about its own deliveries.

``missing`` tells senders what the inbox has not got; the dead letters are listed
and replayed. A replay hands the letter to the subscription that it came for, in
this process, with a repaired body if one is given; the inbox decides as always,
and only a handler that returns makes the letter replayed.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

from contracts.deadletters import (
    DeadLetter,
    DeadLetterPage,
    DeadLetterState,
    ListDeadLetters,
    ReplayDeadLetter,
)
from contracts.delivery import Missing, MissingReply, Nothing
from contracts.problems import Code
from contracts.subjects import Service, Track, Verb, dead_letters, missing, replay
from messaging.bus import Delivery
from messaging.foreign import CREATED_HEADER, SEQUENCE_HEADER
from messaging.refusals import refuse
from messaging.subscriptions import Answer, Events, ForeignEvent, Subscription, Work
from messaging.wire import tenant_of
from messaging.working import process

PAGE_BYTES_MAX = 512 * 1024

Dispatch = Callable[[DeadLetter], Awaitable[None]]
"""Processes a dead letter again; raises what its handler raises."""


class HousekeepingStore(Protocol):
    """The store's inbox and dead letters; each method is one short transaction."""

    async def known(self, message_ids: Sequence[str]) -> set[str]:
        """Return those of the ids that this service has got."""
        ...

    async def bury(self, letter: DeadLetter) -> None:
        """Keep a dead letter; the same id again changes nothing."""
        ...

    async def dead_letters(self, request: ListDeadLetters) -> DeadLetterPage:
        """Return a page of dead letters, newest first."""
        ...

    async def dead_letter(
        self, letter_id: str, tenant: str | None
    ) -> DeadLetter | None:
        """Return one dead letter, if it is there and this tenant's."""
        ...

    async def mark_replayed(self, letter_id: str) -> None:
        """Record that a dead letter was processed after all."""
        ...


def housekeeping(
    service: Service, store: HousekeepingStore, dispatch: Dispatch
) -> tuple[Subscription, ...]:
    """
    Return the subscriptions by which a service answers for its deliveries.

    Args:
        service: Whose.
        store: Its inbox and dead letters.
        dispatch: ``dispatcher`` of its other subscriptions.
    """
    keeper = _Keeper(service, store, dispatch)
    return (
        Answer(missing(service), Missing, keeper.tell_missing),
        Answer(dead_letters(service), ListDeadLetters, keeper.list_letters),
        Answer(replay(service), ReplayDeadLetter, keeper.replay, concurrency=8),
    )


def dispatcher(subscriptions: Sequence[Subscription]) -> Dispatch:
    """Return what hands a dead letter to the subscription that it came for."""

    async def dispatch(letter: DeadLetter) -> None:
        for subscription in subscriptions:
            match subscription:
                case Work() if _is_for(subscription.verb, letter.subject):
                    await process(subscription, letter.body, _delivery(letter))
                    return
                case Events() if letter.subject.startswith("events."):
                    await subscription.handle(_event(letter))
                    return
                case _:
                    pass
        detail = f"{letter.subject}: this version processes no such message any more"
        raise refuse(Code.CONFLICT, detail)

    return dispatch


def repaired(letter: DeadLetter, body: bytes) -> DeadLetter:
    """
    Return the letter with another body.

    A body that is a whole CloudEvent speaks for itself: the headers by which the
    broken message described itself are dropped, since one of them may be what was
    wrong.
    """
    headers = dict(letter.headers)
    if _is_cloud_event(body):
        headers = {
            name: text
            for name, text in headers.items()
            if not name.lower().startswith(("ce-", "content-type"))
        }
    return letter.model_copy(update={"body": body, "headers": headers})


def _is_cloud_event(body: bytes) -> bool:
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "specversion" in found


class _Keeper:
    """Answers for one service's deliveries."""

    def __init__(
        self, service: Service, store: HousekeepingStore, dispatch: Dispatch
    ) -> None:
        self._service = service
        self._store = store
        self._dispatch = dispatch

    async def tell_missing(self, request: Missing, _: Delivery) -> MissingReply:
        """Return those ids that this service has not got."""
        known = await self._store.known(request.message_ids)
        return MissingReply(
            missing=tuple(each for each in request.message_ids if each not in known)
        )

    async def list_letters(
        self, request: ListDeadLetters, _: Delivery
    ) -> DeadLetterPage:
        """Return a page that fits into one reply; the cursor leads to the rest."""
        limit = request.limit
        while True:
            asked = request.model_copy(update={"limit": limit})
            page = await self._store.dead_letters(asked)
            if limit == 1 or len(page.encode()) <= PAGE_BYTES_MAX:
                return page
            limit = max(1, limit // 4)

    async def replay(self, request: ReplayDeadLetter, _: Delivery) -> Nothing:
        """
        Process a dead letter again.

        Raises:
            Refused: There is no such letter, or it is not open, or its body does
                not fit.
            Fault: The handler failed; the letter stays open.
        """
        letter = await self._store.dead_letter(request.id, request.tenant)
        if letter is None:
            raise refuse(Code.NOT_FOUND, f"{self._service} has no {request.id}")
        if letter.state is not DeadLetterState.OPEN:
            detail = f"{request.id} is {letter.state} already; nothing was done"
            raise refuse(Code.CONFLICT, detail)
        if request.body is not None:
            letter = repaired(letter, request.body)
        await self._dispatch(letter)
        await self._store.mark_replayed(letter.id)
        return Nothing()


def _is_for(verb: Verb, subject: str) -> bool:
    return any(
        subject.startswith(verb.pattern(track).removesuffix("*")) for track in Track
    )


def _delivery(letter: DeadLetter) -> Delivery:
    return Delivery(
        subject=letter.subject,
        message_id=letter.message_id,
        tenant=tenant_of(letter.subject),
        headers=letter.headers,
        deliveries=letter.deliveries + 1,
    )


def _event(letter: DeadLetter) -> ForeignEvent:
    headers = dict(letter.headers)
    try:
        created = datetime.fromisoformat(headers.pop(CREATED_HEADER))
        sequence = int(headers.pop(SEQUENCE_HEADER))
    except (KeyError, ValueError) as cause:
        detail = f"{letter.id} does not say where in its stream it stood"
        raise refuse(Code.INVALID, detail) from cause
    return ForeignEvent(
        tenant=letter.tenant or "",
        subject=letter.subject,
        headers=headers,
        body=letter.body,
        stream_created=created,
        sequence=sequence,
        deliveries=letter.deliveries + 1,
    )
