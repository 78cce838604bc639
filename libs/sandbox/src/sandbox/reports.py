"""The vendors' usage reports, asked as their administrators ask."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aiohttp import web

from sandbox.ledger import RowKind
from sandbox.payload import RequestRefused, bad_request
from sandbox.usage_report import Query, anthropic_page, make_page, openai_page
from sandbox.vendor import ANTHROPIC, OPENAI, Vendor, json_reply

SECONDS_MAX: Final = 1 << 33


@dataclass(frozen=True)
class Reports:
    """Sums up a vendor's ledger; any key that is let in may ask."""

    vendor: Vendor

    async def completions(self, request: web.Request) -> web.StreamResponse:
        """``GET /v1/organization/usage/completions``."""
        return self._openai(request, RowKind.COMPLETION)

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        """``GET /v1/organization/usage/embeddings``."""
        return self._openai(request, RowKind.EMBEDDING)

    async def messages(self, request: web.Request) -> web.StreamResponse:
        """``GET /v1/organizations/usage_report/messages``."""
        try:
            self.vendor.authenticate(request, ANTHROPIC)
            query = self._query(
                request,
                start=_moment(request.query.get("starting_at"), "starting_at"),
                end=_moment(request.query.get("ending_at"), "ending_at"),
            )
            rows = self.vendor.ledger.rows()
            page = make_page(rows, ANTHROPIC.name, RowKind.COMPLETION, query)
        except RequestRefused as refused:
            return self.vendor.refuse(request, ANTHROPIC, refused.failure)
        return json_reply(anthropic_page(page))

    def _openai(self, request: web.Request, kind: RowKind) -> web.StreamResponse:
        try:
            self.vendor.authenticate(request, OPENAI)
            query = self._query(
                request,
                start=_number(request.query.get("start_time"), "start_time"),
                end=_number(request.query.get("end_time"), "end_time"),
            )
            page = make_page(self.vendor.ledger.rows(), OPENAI.name, kind, query)
        except RequestRefused as refused:
            return self.vendor.refuse(request, OPENAI, refused.failure)
        return json_reply(openai_page(page, kind))

    def _query(self, request: web.Request, start: int | None, end: int | None) -> Query:
        if start is None:
            message = "a report needs its start: start_time, or starting_at"
            raise bad_request(message, "start_time")
        query = request.query
        if page := query.get("page"):
            start = _number(page.removeprefix("page_"), "page") or start
        now = int(self.vendor.world.now()) + 1
        return Query(
            start=start,
            end=now if end is None else min(end, now),
            width=query.get("bucket_width", "1d"),
            limit=_number(query.get("limit"), "limit"),
            group_by=_listed(request, "group_by"),
            models=_listed(request, "models"),
        )


def _listed(request: web.Request, name: str) -> tuple[str, ...]:
    """Return the values of ``name`` or ``name[]``, repeated or joined by commas."""
    query = request.query
    values = [*query.getall(name, []), *query.getall(f"{name}[]", [])]
    return tuple(each for value in values for each in value.split(",") if each)


def _number(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) > SECONDS_MAX:
        message = f"{name}: expected a whole number of seconds or buckets"
        raise bad_request(message, name)
    return int(text)


def _moment(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as cause:
        message = f"{name}: expected an RFC 3339 time such as 2026-01-31T00:00:00Z"
        raise bad_request(message, name) from cause
    if moment.tzinfo is None:
        message = f"{name}: the time needs a zone, such as a final Z"
        raise bad_request(message, name)
    return int(moment.timestamp())
