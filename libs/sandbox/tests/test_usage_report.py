"""The vendors' own reports are sums of the ledger, in buckets and pages."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sandbox_line import Line

from sandbox.ledger import EndState, Row, RowKind
from sandbox.usage_report import Query, make_page, openai_page

COMPLETIONS: Final = "/v1/organization/usage/completions"
EMBEDDINGS: Final = "/v1/organization/usage/embeddings"
MESSAGES: Final = "/v1/organizations/usage_report/messages"
ROW: Final = Row(
    sequence=1,
    request_id="req_1",
    client_request_id="a",
    protocol="openai",
    model="sandbox-small",
    stream=False,
    status=200,
    end_state=EndState.COMPLETED,
    fault="",
    usage_reported=True,
    input_tokens=7,
    output_tokens=3,
    cache_read_tokens=2,
    cache_write_tokens=0,
    reasoning_tokens=0,
    started_at=90.0,
    ended_at=100.0,
)


async def report(line: Line, path: str, **query: Any) -> dict[str, Any]:
    """Ask for a report, from the epoch's day of the first row on."""
    headers = {"authorization": "Bearer admin"}
    async with line.control.get(path, params=query, headers=headers) as answer:
        return await answer.json()


async def test_openai_s_report_sums_up_the_ledger(line: Line) -> None:
    """By model, with cut calls and without refused ones, to the token."""
    await line.call("openai")
    await line.call("openai", "cut;after_events=5")
    await line.call("openai", "error_500")
    await line.call("openai", model="sandbox-large", stream=False)
    await line.call("anthropic")
    rows = [row for row in await line.rows(5) if row["protocol"] == "openai"]
    start = int(rows[0]["started_at"]) - 60
    body = await report(
        line, COMPLETIONS, start_time=start, bucket_width="1d", group_by="model"
    )
    results = [each for bucket in body["data"] for each in bucket["results"]]
    for model, requests in (("sandbox-small", 2), ("sandbox-large", 1)):
        mine = [row for row in rows if row["model"] == model]
        told = [each for each in results if each["model"] == model]
        assert sum(each["num_model_requests"] for each in told) == requests
        for name in ("input_tokens", "output_tokens"):
            assert sum(each[name] for each in told) == sum(row[name] for row in mine)
    assert {each["object"] for each in results} == {
        "organization.usage.completions.result"
    }
    assert (body["object"], body["has_more"]) == ("page", False)


async def test_anthropic_s_report_splits_the_input(line: Line) -> None:
    """Uncached, read and written tokens add up to the prompts."""
    async with line.control.put("/sandbox/cache", json={"enabled": True}):
        pass
    mark = {"type": "ephemeral", "ttl": "1h"}
    system = [{"type": "text", "text": "Be brief. " * 600, "cache_control": mark}]
    for _ in range(2):
        await line.call("anthropic", system=system)
    rows = await line.rows(2)
    start = datetime.fromtimestamp(rows[0]["started_at"] - 60, UTC)
    body = await report(line, MESSAGES, starting_at=start.isoformat())
    (result,) = [each for bucket in body["data"] for each in bucket["results"]]
    written = result["cache_creation"]
    assert written == {
        "ephemeral_1h_input_tokens": 1504,
        "ephemeral_5m_input_tokens": 0,
    }
    assert result["cache_read_input_tokens"] == 1504
    parts = 1504 + 1504 + result["uncached_input_tokens"]
    assert parts == sum(row["input_tokens"] for row in rows)
    assert result["output_tokens"] == sum(row["output_tokens"] for row in rows)
    assert result["model"] is None


async def test_embeddings_have_a_report_of_their_own(line: Line) -> None:
    """They are not among the completions."""
    headers = {"authorization": "Bearer any"}
    body = {"model": "sandbox-embedding-small", "input": "12345678"}
    await line.post("/v1/embeddings", body, headers)
    (row,) = await line.rows()
    start = int(row["started_at"]) - 60
    mine = await report(line, EMBEDDINGS, start_time=start)
    (result,) = [each for bucket in mine["data"] for each in bucket["results"]]
    assert (result["input_tokens"], result["num_model_requests"]) == (2, 1)
    assert "output_tokens" not in result
    others = await report(line, COMPLETIONS, start_time=start)
    assert all(not bucket["results"] for bucket in others["data"])


@pytest.mark.parametrize(
    ("path", "query", "words"),
    [
        (COMPLETIONS, {}, "start_time"),
        (COMPLETIONS, {"start_time": "noon"}, "start_time"),
        (COMPLETIONS, {"start_time": 5, "end_time": 5}, "after the start"),
        (COMPLETIONS, {"start_time": 5, "bucket_width": "1w"}, "bucket_width"),
        (COMPLETIONS, {"start_time": 5, "limit": 32}, "limit"),
        (COMPLETIONS, {"start_time": 5, "group_by": "mood"}, "group_by"),
        (MESSAGES, {"starting_at": "noon"}, "RFC 3339"),
        (MESSAGES, {"starting_at": "2026-01-01T00:00:00"}, "zone"),
    ],
)
async def test_a_malformed_query_is_refused(
    line: Line, path: str, query: dict[str, Any], words: str
) -> None:
    """The error says what to give."""
    body = await report(line, path, **query)
    assert words in body["error"]["message"]


async def test_a_report_needs_a_key(line: Line) -> None:
    """As every path below /v1."""
    async with line.control.get(COMPLETIONS) as answer:
        assert answer.status == 401


@given(
    ends=st.lists(st.integers(0, 10_000), max_size=30),
    width=st.sampled_from(["1m", "1h"]),
    limit=st.integers(1, 20),
)
def test_pages_lose_no_row_and_count_none_twice(
    ends: list[int], width: str, limit: int
) -> None:
    """Whatever the width and the size of a page, the sums are the ledger's."""
    rows = [replace(ROW, ended_at=float(end)) for end in ends]
    start: int | None = 0
    requests = tokens = 0
    seen: list[int] = []
    while start is not None:
        query = Query(start, 10_001, width, limit)
        page = make_page(rows, "openai", RowKind.COMPLETION, query)
        body: Any = openai_page(page, RowKind.COMPLETION)
        for bucket in body["data"]:
            seen.append(bucket["start_time"])
            for each in bucket["results"]:
                requests += each["num_model_requests"]
                tokens += each["input_tokens"]
        assert body["has_more"] == (page.next_start is not None)
        start = page.next_start
    assert (requests, tokens) == (len(rows), 7 * len(rows))
    assert seen == sorted(set(seen))
