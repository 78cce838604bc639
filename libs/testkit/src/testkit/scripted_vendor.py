"""
A vendor outside of the simulation's processes: it survives their crashes.

It keeps its own ledger by attempt id, as an oracle: what was dispatched to it, and
what usage it reported. Its answers follow from the request; its failures from the
seed and the attempt.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from ai_broker.domain.catalogue import Candidate
from ai_broker.domain.vendor import (
    Done,
    Failure,
    FailureKind,
    Prepared,
    Started,
    Text,
    ToolCallPiece,
    UsageSeen,
    VendorError,
    VendorEvent,
)
from contracts.completions import CompletionRequest, FinishReason, Role
from contracts.message import JsonObject
from contracts.usage import TokenUsage
from testkit.chance import Chance

HTTP_OK: Final = 200
SILENCE_S_MAX: Final = 40.0
ANSWER: Final = "the answer is 42"


@dataclass(slots=True)
class VendorLine:
    """What the vendor knows of one attempt."""

    attempt_id: str
    completion_id: str
    dispatches: int = 0
    reported: TokenUsage | None = None
    """The usage of the whole call, once it was said."""


class ScriptedVendor:
    """
    Answers by a script: a few calculator calls, then words.

    Args:
        chance: Decides its delays and failures.
        failing: How likely a call fails, from 0 to 1; may be changed.
        on_dispatch: Told the completion id of every call.
    """

    def __init__(
        self,
        chance: Chance,
        failing: float,
        on_dispatch: Callable[[str], Awaitable[None]],
    ) -> None:
        self.failing = failing
        self.ledger: dict[str, VendorLine] = {}
        self._chance = chance
        self._on_dispatch = on_dispatch

    def prepare(self, request: CompletionRequest, candidate: Candidate) -> Prepared:
        """Return what of the request the script needs."""
        turns = sum(turn.role is Role.ASSISTANT for turn in request.turns)
        body: JsonObject = {
            "completion_id": request.completion_id,
            "turns": turns,
            "has_tools": bool(request.tools),
            "model": candidate.model,
        }
        return Prepared(body)

    async def complete(
        self, body: JsonObject, attempt_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        """Answer, or fail, once."""
        completion_id = str(body["completion_id"])
        line = self.ledger.setdefault(attempt_id, VendorLine(attempt_id, completion_id))
        line.dispatches += 1
        await self._on_dispatch(completion_id)
        fails = self._chance.happens(self.failing, "fails", attempt_id)
        await self._think(attempt_id)
        if fails:
            await self._fail_early(attempt_id, timeout_s)
        yield Started(HTTP_OK, f"request-{attempt_id}")
        turns = int(str(body["turns"]))
        is_last = not body["has_tools"] or turns >= 1 + self._chance_of(completion_id)
        if is_last:
            for word in ANSWER.split(" "):
                yield Text(part=0, text=word + " ")
                await self._think(attempt_id)
        else:
            expression = f'{{"expression": "6 * 7 + {turns}"}}'
            yield ToolCallPiece(0, f"call-{turns}", "calculator", expression)
            await self._think(attempt_id)
        if fails:
            raise VendorError(Failure(FailureKind.CUT, "the stream stopped"))
        usage = TokenUsage(input_tokens=100 + 10 * turns, output_tokens=7)
        line.reported = usage
        yield UsageSeen(usage, {"input": usage.input_tokens}, final=True)
        reason = FinishReason.STOP if is_last else FinishReason.TOOL_CALLS
        yield Done(reason, str(body["model"]))

    async def models(
        self, check_id: str, timeout_s: float
    ) -> AsyncGenerator[VendorEvent]:
        """Tell that there are some."""
        del timeout_s
        yield Started(HTTP_OK, f"request-{check_id}")

    async def close(self) -> None:
        """Nothing is open."""

    async def _think(self, attempt_id: str) -> None:
        await asyncio.sleep(0.01 + self._chance.draw("think", attempt_id) ** 4 * 4)

    async def _fail_early(self, attempt_id: str, timeout_s: float) -> None:
        match self._chance.pick(6, "how", attempt_id):
            case 0:
                raise VendorError(Failure(FailureKind.REFUSED, "busy", status=429))
            case 1:
                raise VendorError(Failure(FailureKind.REFUSED, "broken", status=500))
            case 2:
                raise VendorError(Failure(FailureKind.UNREACHED, "no route"))
            case 3:
                raise VendorError(Failure(FailureKind.LOST, "reset"))
            case 4:
                await asyncio.sleep(min(timeout_s, SILENCE_S_MAX))
                raise VendorError(Failure(FailureKind.SILENT, "nothing came"))
            case _:
                """It will be cut after its content."""

    def _chance_of(self, completion_id: str) -> int:
        # The same for every attempt at a step: its id without the turn.
        step = completion_id.rpartition(":")[0]
        return len(step.encode()) % 2 + sum(step.encode()) % 2
