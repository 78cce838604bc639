"""The sandbox vendor's control endpoints: its ledger, open calls, faults, latency."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

PAGE: Final = 10_000
LIMIT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class VendorRow:
    """One request that reached the vendor, as the vendor wrote it down."""

    sequence: int
    client_request_id: str
    """The attempt id that we sent along."""
    end_state: str
    fault: str
    """What was made to go wrong; empty when nothing was."""
    usage_reported: bool
    input_tokens: int
    """The whole prompt as reported, cached parts included; else as counted."""
    output_tokens: int
    """The whole output as reported, reasoning included; else as generated."""


class Vendor:
    """
    Looks into the sandbox and steers it.

    Args:
        url: Where it listens.
    """

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=LIMIT_S)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def rows(self, after: int = 0) -> list[VendorRow]:
        """Return the calls that have ended, after a sequence, in order."""
        found: list[VendorRow] = []
        while True:
            page = await self._get("/sandbox/ledger", {"after": after, "limit": PAGE})
            found.extend(_row(each) for each in page["rows"])
            after = page["next_after"]
            if not page["more"]:
                return found

    async def clear(self) -> None:
        """Empty the ledger."""
        (await self._http.delete("/sandbox/ledger")).raise_for_status()

    async def mark(self) -> int:
        """Return the newest sequence."""
        rows = await self.rows()
        return rows[-1].sequence if rows else 0

    async def open_calls(self) -> list[Mapping[str, Any]]:
        """Return the calls in progress."""
        return (await self._get("/sandbox/open", {}))["open"]

    async def set_latency(self, latency_ms: float, token_ms: float = 0.0) -> None:
        """Hold every answer, and every token of it, for so long."""
        body = {"latency_ms": latency_ms, "token_ms": token_ms}
        (await self._http.put("/sandbox/latency", json=body)).raise_for_status()

    async def set_faults(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """Replace the fault rules; none ends them."""
        answer = await self._http.put("/sandbox/faults", json=list(rules))
        answer.raise_for_status()

    # What comes from another program has the shape that its README promises.
    async def _get(self, path: str, query: Mapping[str, int]) -> dict[str, Any]:
        answer = await self._http.get(path, params=dict(query))
        answer.raise_for_status()
        return answer.json()


def _row(fields: Mapping[str, Any]) -> VendorRow:
    told: Mapping[str, Any] = fields.get("reported") or fields
    return VendorRow(
        sequence=fields["sequence"],
        client_request_id=fields["client_request_id"],
        end_state=fields["end_state"],
        fault=fields["fault"],
        usage_reported=fields["usage_reported"],
        input_tokens=told["input_tokens"],
        output_tokens=told["output_tokens"],
    )
