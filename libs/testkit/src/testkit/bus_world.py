"""
What the bus suite needs: a network to make buses on, and messages to send.

Tests wait for conditions on the world's clock, so that a simulated world can let
time pass as it likes.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from contracts.completions import ChatTurn, CompletionRequest, Role, TextPart
from contracts.delivery import Missing, MissingReply
from contracts.frames import Failed
from contracts.problems import Code, ErrorEnvelope, problem
from contracts.steps import CancelStep
from contracts.subjects import CANCEL_STEP, Service, missing
from determinism import Clock
from messaging.bus import Bus, Outgoing
from messaging.subscriptions import Subscription

TENANT = "acme"
PATIENCE_S = 20.0
LOOK_S = 0.02
RECEIVER = Service.AGENT_RUNTIME


class Letter(Protocol):
    """What a test reads of a dead letter."""

    @property
    def message_id(self) -> str:
        """The message's id."""
        ...

    @property
    def reason(self) -> str:
        """Why it was given up."""
        ...


class BusWorld(Protocol):
    """A network that buses of several services share."""

    @property
    def clock(self) -> Clock:
        """Return what the buses wait on."""
        ...

    @property
    def bug_tries(self) -> int:
        """Return how often a bug is tried before its message is given up."""
        ...

    async def bus(self, service: Service, *subscriptions: Subscription) -> Bus:
        """Return a connected, subscribed bus of one more process of a service."""
        ...

    def letters(self, service: Service) -> tuple[Letter, ...]:
        """Return the service's dead letters."""
        ...

    async def stop(self, bus: Bus) -> None:
        """Drain one process and disconnect it."""
        ...

    async def inject(self, subject: str, body: bytes) -> None:
        """Publish raw bytes on a concrete subject, without headers."""
        ...


async def until(clock: Clock, condition: Callable[[], bool]) -> None:
    """Wait for a condition; fail when it does not come."""
    for _ in range(int(PATIENCE_S / LOOK_S)):
        if condition():
            return
        await clock.sleep(LOOK_S)
    raise AssertionError("the condition did not come within its deadline")


def message_of(number: int, tenant: str = TENANT) -> CancelStep:
    """Return a small work message."""
    return CancelStep(
        tenant=tenant, task_id=f"task_{number}", step_id=f"step_{number}", reason="x"
    )


def outgoing(number: int, *, send: int = 0, body: bytes | None = None) -> Outgoing:
    """Return the work message on its way, with an id derived from its number."""
    return Outgoing(
        address=CANCEL_STEP.to(TENANT),
        message_id=f"message_{number}",
        send=send,
        body=message_of(number).encode() if body is None else body,
        task_key=f"task_{number}",
    )


def completion_request(world: BusWorld, *, within_s: float = 60.0) -> CompletionRequest:
    """Return a question to a model."""
    return CompletionRequest(
        completion_id="step_1:0",
        tenant=TENANT,
        model="smart",
        turns=(ChatTurn(role=Role.USER, parts=(TextPart(text="hello"),)),),
        deadline=world.clock.now() + timedelta(seconds=within_s),
    )


def failed(code: Code = Code.CANCELLED) -> Failed:
    """Return an end frame; ``Finished`` would only need a longer builder."""
    return Failed(error=ErrorEnvelope(problem=problem(code, "the end")))


async def ask_missing(asker: Bus, *, timeout_s: float = 10.0) -> MissingReply:
    """Ask the receiver a small question."""
    return await asker.request(
        missing(RECEIVER).to(None),
        Missing(message_ids=("a",)),
        MissingReply,
        timeout_s=timeout_s,
    )
