"""
What is known of one call from admission to its ledger row.

``CallRecord`` is written to while the call runs, so that whatever ends it (the last
byte, a fault, the client hanging up) finds the tokens generated so far.
"""

from dataclasses import dataclass
from typing import Final

from sandbox.ledger import EndState, Row, RowKind
from sandbox.payload import JsonObject
from sandbox.wire import Usage

NO_USAGE: Final = Usage(0, 0)


@dataclass(frozen=True)
class Latency:
    """Milliseconds before the first token, and per token afterwards."""

    first_ms: float = 0.0
    token_ms: float = 0.0


@dataclass
class CallRecord:
    """What is known of a running call; becomes a ledger row at its end."""

    request_id: str
    client_request_id: str
    protocol: str
    started_at: float
    api_key_id: str = ""
    kind: RowKind = RowKind.COMPLETION
    model: str = ""
    stream: bool = False
    status: int = 0
    fault: str = ""
    end_state: EndState = EndState.CLIENT_DISCONNECTED
    usage: Usage = NO_USAGE
    told: Usage | None = None
    usage_reported: bool = False
    output_tokens: int = 0
    service_tier: str = ""

    def row(self, sequence: int, now: float) -> Row:
        """Close the record."""
        return Row(
            sequence=sequence,
            request_id=self.request_id,
            client_request_id=self.client_request_id,
            protocol=self.protocol,
            model=self.model,
            stream=self.stream,
            status=self.status,
            end_state=self.end_state,
            fault=self.fault,
            usage_reported=self.usage_reported,
            service_tier=self.service_tier,
            kind=self.kind,
            api_key_id=self.api_key_id,
            reported=self.told if self.usage_reported else None,
            input_tokens=self.usage.input_tokens,
            output_tokens=self.output_tokens,
            cache_read_tokens=self.usage.cache_read_tokens,
            cache_write_tokens=self.usage.cache_write_tokens,
            cache_write_1h_tokens=self.usage.cache_write_1h_tokens,
            reasoning_tokens=min(self.usage.reasoning_tokens, self.output_tokens),
            started_at=self.started_at,
            ended_at=now,
        )


def open_call(record: CallRecord) -> JsonObject:
    """Describe a running call."""
    return {
        "request_id": record.request_id,
        "client_request_id": record.client_request_id,
        "protocol": record.protocol,
        "model": record.model,
        "output_tokens": record.output_tokens,
        "started_at": record.started_at,
    }
