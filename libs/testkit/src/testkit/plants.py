"""
Planted bugs: each breaks one promise of the delivery path, and must be found.

A simulation that finds none of these proves nothing. Each patches production's own
class for the length of a run.
"""

from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from enum import StrEnum
from typing import Any, assert_never

from nats.aio.msg import Msg

from contracts.headers import MESSAGE_ID
from messaging.settle import Settler
from persistence.delivery import DeliveryStore
from persistence.inbox import Inbox
from testkit.clock import OWNER
from testkit.incarnation import Incarnation

Run = Callable[[Settler, Msg, Callable[[], Awaitable[None]]], Awaitable[None]]


class Plant(StrEnum):
    """The bugs."""

    ACK_BEFORE_COMMIT = "ack-before-commit"
    """A message is acked when it arrives: a crash before the commit loses it."""
    RESEND_DROPPED = "resend-dropped"
    """The inbox row is committed ahead: after a crash the re-send is dropped."""
    DELETED_ON_PUBACK = "deleted-on-puback"
    """The outbox row goes with the PubAck: a wiped store loses the message."""


@contextmanager
def planted(plant: Plant | None) -> Generator[None]:
    """Run the block with this bug in the code; None runs it as it is."""
    with ExitStack() as stack:
        match plant:
            case None:
                pass
            case Plant.ACK_BEFORE_COMMIT:
                stack.enter_context(_patched(Settler, "run", _ack_first(Settler.run)))
            case Plant.RESEND_DROPPED:
                early = _admit_ahead(Settler.run, Inbox.admit)
                stack.enter_context(_patched(Settler, "run", early))
                late = _admitted_ahead(Inbox.admit)
                stack.enter_context(_patched(Inbox, "admit", late))
            case Plant.DELETED_ON_PUBACK:
                stack.enter_context(
                    _patched(DeliveryStore, "mark_sent", DeliveryStore.confirm)
                )
            case _:
                assert_never(plant)
        yield


# Any: a patch takes whatever the patched function takes.
@contextmanager
def _patched(owner: type[Any], name: str, patch: Any) -> Generator[None]:
    original = getattr(owner, name)
    setattr(owner, name, patch)
    try:
        yield
    finally:
        setattr(owner, name, original)


def _ack_first(run: Run) -> Run:
    async def patched(
        self: Settler, msg: Msg, handle: Callable[[], Awaitable[None]]
    ) -> None:
        await msg.ack()
        # The settling that follows is spoken too, and changes nothing any more.
        msg._ackd = False  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        await run(self, msg, handle)

    return patched


def _admit_ahead(run: Run, admit: Callable[[Inbox, str, datetime], bool]) -> Run:
    async def patched(
        self: Settler, msg: Msg, handle: Callable[[], Awaitable[None]]
    ) -> None:
        owner = OWNER.get()
        message_id = (msg.headers or {}).get(MESSAGE_ID)
        if isinstance(owner, Incarnation) and owner.store and message_id:
            database, shared, now = owner.store
            is_new = await database.run(
                lambda connection: admit(Inbox(connection, shared), message_id, now())
            )
            if is_new:
                owner.admitted_ahead.add(message_id)
        await run(self, msg, handle)

    return patched


def _admitted_ahead(
    admit: Callable[[Inbox, str, datetime], bool],
) -> Callable[[Inbox, str, datetime], bool]:
    def patched(self: Inbox, message_id: str, now: datetime) -> bool:
        owner = OWNER.get()
        if isinstance(owner, Incarnation) and message_id in owner.admitted_ahead:
            owner.admitted_ahead.remove(message_id)
            return True
        return admit(self, message_id, now)

    return patched
