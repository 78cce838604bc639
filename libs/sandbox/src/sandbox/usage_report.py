"""
The ledger summed up in time buckets, which is all that real vendors give.

A row is counted where it ended, if its prompt was read: refused calls cost nothing,
calls that were cut or timed out cost what was generated. Buckets begin at whole
minutes, hours or days; without rows they are empty, and pages follow each other.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from sandbox.ledger import Row, RowKind
from sandbox.payload import Json, JsonObject, bad_request

WIDTHS_S: Final = {"1m": 60, "1h": 3600, "1d": 86_400}
BUCKETS: Final = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}
"""How many buckets a page has, and may have at most."""
GROUPS: Final = ("model", "api_key_id", "service_tier")


@dataclass(frozen=True)
class Query:
    """What is asked: seconds since 1970, and by which fields to group."""

    start: int
    end: int
    width: str = "1d"
    limit: int | None = None
    group_by: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


@dataclass
class Sum:
    """Tokens of one group in one bucket; ``input_tokens`` is with the cached ones."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    requests: int = 0

    def add(self, row: Row) -> None:
        """Count one call."""
        self.input_tokens += row.input_tokens
        self.output_tokens += row.output_tokens
        self.cache_read_tokens += row.cache_read_tokens
        self.cache_write_tokens += row.cache_write_tokens
        self.cache_write_1h_tokens += row.cache_write_1h_tokens
        self.requests += 1


@dataclass
class Bucket:
    """One stretch of time with a sum for each group, keyed by the fields grouped."""

    start: int
    end: int
    sums: dict[tuple[str | None, ...], Sum] = field(
        default_factory=dict[tuple[str | None, ...], Sum]
    )


@dataclass(frozen=True)
class Page:
    """Buckets in order; ``next_start`` is where the next page begins, if any."""

    buckets: list[Bucket]
    next_start: int | None


def make_page(rows: Iterable[Row], protocol: str, kind: RowKind, query: Query) -> Page:
    """
    Sum up one protocol's rows of a kind.

    Raises:
        RequestRefused: The query is out of range.
    """
    width, limit = _checked(query)
    first = query.start - query.start % width
    starts = range(first, query.end, width)
    buckets = {at: Bucket(at, at + width) for at in starts[:limit]}
    for row in rows:
        at = int(row.ended_at) - int(row.ended_at) % width
        bucket = buckets.get(at)
        if bucket is None or not row.input_tokens or row.ended_at < query.start:
            continue
        if (row.protocol, row.kind) != (protocol, kind):
            continue
        if query.models and row.model not in query.models:
            continue
        group = tuple(
            getattr(row, name) if name in query.group_by else None for name in GROUPS
        )
        bucket.sums.setdefault(group, Sum()).add(row)
    rest = starts[limit:]
    return Page(list(buckets.values()), rest[0] if rest else None)


def openai_page(page: Page, kind: RowKind) -> JsonObject:
    """Write ``GET /v1/organization/usage/completions`` or ``…/embeddings``."""
    data: list[Json] = [
        {
            "object": "bucket",
            "start_time": bucket.start,
            "end_time": bucket.end,
            "results": [
                _openai_result(kind, group, total)
                for group, total in bucket.sums.items()
            ],
        }
        for bucket in page.buckets
    ]
    return {"object": "page", "data": data, **_rest(page)}


def anthropic_page(page: Page) -> JsonObject:
    """Write ``GET /v1/organizations/usage_report/messages``."""
    data: list[Json] = [
        {
            "starting_at": _moment(bucket.start),
            "ending_at": _moment(bucket.end),
            "results": [
                _anthropic_result(group, total) for group, total in bucket.sums.items()
            ],
        }
        for bucket in page.buckets
    ]
    return {"data": data, **_rest(page)}


def _checked(query: Query) -> tuple[int, int]:
    width = WIDTHS_S.get(query.width)
    if width is None:
        message = f"bucket_width: expected one of {', '.join(WIDTHS_S)}"
        raise bad_request(message, "bucket_width")
    usual, most = BUCKETS[query.width]
    limit = usual if query.limit is None else query.limit
    if not 1 <= limit <= most:
        message = f"limit: expected 1 to {most} buckets of {query.width}"
        raise bad_request(message, "limit")
    unknown = sorted(set(query.group_by) - set(GROUPS))
    if unknown:
        message = f"group_by: '{unknown[0]}' is not one of {', '.join(GROUPS)}"
        raise bad_request(message, "group_by")
    if query.end <= query.start:
        message = "the end must come after the start"
        raise bad_request(message, "end_time")
    return width, limit


def _openai_result(
    kind: RowKind, group: tuple[str | None, ...], total: Sum
) -> JsonObject:
    model, api_key_id, tier = group
    result: JsonObject = {
        "object": f"organization.usage.{kind}s.result",
        "input_tokens": total.input_tokens,
        "num_model_requests": total.requests,
        "project_id": None,
        "user_id": None,
        "api_key_id": api_key_id,
        "model": model,
    }
    if kind is RowKind.COMPLETION:
        result |= {
            "output_tokens": total.output_tokens,
            "input_cached_tokens": total.cache_read_tokens,
            "input_audio_tokens": 0,
            "output_audio_tokens": 0,
            "batch": None,
            "service_tier": tier,
        }
    return result


def _anthropic_result(group: tuple[str | None, ...], total: Sum) -> JsonObject:
    model, api_key_id, tier = group
    written, hour = total.cache_write_tokens, total.cache_write_1h_tokens
    return {
        "uncached_input_tokens": total.input_tokens - total.cache_read_tokens - written,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written - hour,
            "ephemeral_1h_input_tokens": hour,
        },
        "cache_read_input_tokens": total.cache_read_tokens,
        "output_tokens": total.output_tokens,
        "server_tool_use": {"web_search_requests": 0},
        "api_key_id": api_key_id,
        "workspace_id": None,
        "model": model,
        "service_tier": tier,
        "context_window": None,
    }


def _rest(page: Page) -> JsonObject:
    start = page.next_start
    next_page = None if start is None else f"page_{start}"
    return {"has_more": start is not None, "next_page": next_page}


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
