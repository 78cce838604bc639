"""One vendor of the sandbox, its calls, and what the sandbox knows of them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from recorded import TRANSPORTS

from ai_broker.adapters.vendors.client import VendorClient
from ai_broker.adapters.vendors.transport import Patience
from ai_broker.domain.catalogue import Candidate, Endpoint, Protocol, VendorEntry
from ai_broker.domain.settlement import Heard
from ai_broker.domain.vendor import (
    Declined,
    Done,
    Failure,
    FailureKind,
    Reasoning,
    Started,
    Text,
    ToolCallPiece,
    UsageSeen,
    Vectors,
    VendorError,
)
from ai_broker.ports.vendors import Vendor
from contracts.completions import (
    ChatTurn,
    CompletionRequest,
    Role,
    TextPart,
)
from determinism import SystemIds

QUESTION = "Please tell me about invoice number 4711, total 120.00 EUR."
PATIENCE = Patience(connect_s=2.0, idle_s=0.5)


@dataclass
class Side:
    """One protocol: its vendor, a model, and what one call said."""

    vendor: Vendor
    candidate: Candidate
    heard: Heard = field(default_factory=Heard)
    done: Done | None = None
    attempt_id: str = ""

    async def call(self, request: CompletionRequest) -> None:
        self.heard, self.done = Heard(), None
        self.attempt_id = SystemIds().new("attempt")
        body = self.vendor.prepare(request, self.candidate).body
        async for event in self.vendor.complete(body, self.attempt_id, 20.0):
            match event:
                case Started():
                    self.heard.started = event
                case UsageSeen():
                    self.heard.usage = event
                case Done():
                    self.done = event
                case Text() | Reasoning() | ToolCallPiece() | Declined():
                    self.heard.answer.add(event)
                case Vectors():
                    raise AssertionError("nobody asked for vectors")

    async def fail(self, request: CompletionRequest) -> Failure:
        try:
            await self.call(request)
        except VendorError as error:
            return error.failure
        assert self.done is None, "a spoiled call must not come to a proper end"
        return Failure(FailureKind.CUT, "it just stopped")


@asynccontextmanager
async def opened(
    protocol: Protocol, sandbox: str, transport: str
) -> AsyncGenerator[Side]:
    """Give a vendor of a protocol by a transport."""
    entry = VendorEntry(name=f"sandbox-{protocol}", protocol=protocol)
    openai = protocol is Protocol.OPENAI
    endpoint = Endpoint(entry, f"{sandbox}{'/v1' if openai else ''}", "any")
    model = "sandbox-small" if openai else "sandbox-claude"
    vendor = VendorClient(endpoint, TRANSPORTS[transport](endpoint, PATIENCE))
    yield Side(vendor, Candidate(entry.name, model))
    await vendor.close()


def ask(text: str = QUESTION, **changes: object) -> CompletionRequest:
    """Give a request with these fields."""
    asked: dict[str, object] = {
        "completion_id": "c",
        "tenant": "acme",
        "model": "any",
        "turns": (ChatTurn(role=Role.USER, parts=(TextPart(text=text),)),),
        "deadline": datetime.now(UTC) + timedelta(seconds=30),  # noqa: TID251
    }
    return CompletionRequest.model_validate(asked | changes)


# Any: the sandbox's rows are JSON.
async def row_of(sandbox: aiohttp.ClientSession, attempt_id: str) -> dict[str, Any]:
    """Wait until the sandbox has booked an attempt."""
    for _ in range(200):
        async with sandbox.get("/sandbox/ledger") as reply:
            rows: list[dict[str, Any]] = (await reply.json())["rows"]
        for row in rows:
            if row["client_request_id"] == attempt_id:
                return row
    raise TimeoutError(f"the sandbox never booked {attempt_id}")


async def spoil(sandbox: aiohttp.ClientSession, fault: str, **more: int) -> None:
    """Let the next call meet a fault."""
    rules = [{"fault": fault, "count": 1, **more}]
    async with sandbox.put("/sandbox/faults", json=rules) as reply:
        assert reply.status == 200, await reply.text()
