"""The sandbox's own endpoints: health, ledger, faults, latency. They need no key."""

from dataclasses import asdict, dataclass
from typing import Final

from aiohttp import web

from sandbox.call import Latency, open_call
from sandbox.limits import Quota
from sandbox.payload import (
    Json,
    JsonObject,
    RequestRefused,
    bad_request,
    parse_object,
    text_of,
)
from sandbox.rules import parse_rules
from sandbox.vendor import Vendor, json_reply

PAGE_ROWS: Final = 1000
PAGE_ROWS_MAX: Final = 10_000


@dataclass(frozen=True)
class Control:
    """Looks into a vendor and steers it."""

    vendor: Vendor

    async def health(self, _: web.Request) -> web.Response:
        """``GET /health``."""
        calls = len(self.vendor.open_calls)
        return json_reply({"status": "ok", "open_calls": calls})

    async def open_calls(self, _: web.Request) -> web.Response:
        """``GET /sandbox/open``: the calls in progress."""
        running = self.vendor.open_calls.values()
        calls: list[Json] = [open_call(each) for each in running]
        return json_reply({"open": calls})

    async def ledger(self, request: web.Request) -> web.Response:
        """``GET /sandbox/ledger?after=&limit=&request_id=``: rows, oldest first."""
        query = request.query
        try:
            after = _whole(query.get("after", "0"), "after")
            limit = _whole(query.get("limit", str(PAGE_ROWS)), "limit")
        except RequestRefused as refused:
            return _refusal(refused)
        rows, more = self.vendor.ledger.page(
            after, min(max(limit, 1), PAGE_ROWS_MAX), query.get("request_id")
        )
        body: JsonObject = {
            "rows": [asdict(row) for row in rows],
            "next_after": rows[-1].sequence if rows else after,
            "more": more,
        }
        return json_reply(body)

    async def clear_ledger(self, _: web.Request) -> web.Response:
        """``DELETE /sandbox/ledger``."""
        self.vendor.ledger.clear()
        return web.Response(status=204)

    async def set_faults(self, request: web.Request) -> web.Response:
        """``PUT /sandbox/faults``: replace all rules; ``[]`` ends them."""
        try:
            body = await request.read()
            rules = parse_rules(parse_object(b'{"rules":' + body + b"}")["rules"])
        except RequestRefused as refused:
            return _refusal(refused)
        self.vendor.faults.replace(rules)
        return json_reply({"rules": len(rules)})

    async def set_cache(self, request: web.Request) -> web.Response:
        """``PUT /sandbox/cache``: ``{"enabled": true}``."""
        try:
            enabled = parse_object(await request.read()).get("enabled")
            if not isinstance(enabled, bool):
                text = "'enabled' must be true or false"
                raise bad_request(text)
        except RequestRefused as refused:
            return _refusal(refused)
        self.vendor.cache.enabled = enabled
        return json_reply({"enabled": enabled})

    async def set_limits(self, request: web.Request) -> web.Response:
        """``PUT /sandbox/limits``: of one ``key``, or of all without their own."""
        limits = self.vendor.limits
        try:
            body = parse_object(await request.read())
            key = text_of(body.get("key")) or None
            known = limits.quota_of(key)
            quota = Quota(
                requests=_limit(body, "requests_per_minute", known.requests),
                tokens=_limit(body, "tokens_per_minute", known.tokens),
            )
        except RequestRefused as refused:
            return _refusal(refused)
        limits.set(key, quota)
        return json_reply(
            {"requests_per_minute": quota.requests, "tokens_per_minute": quota.tokens}
        )

    async def set_latency(self, request: web.Request) -> web.Response:
        """``PUT /sandbox/latency``: ``{"latency_ms": 0, "token_ms": 0}``."""
        try:
            body = parse_object(await request.read())
            first, token = body.get("latency_ms", 0), body.get("token_ms", 0)
            if not isinstance(first, int | float) or not isinstance(token, int | float):
                text = "latency_ms and token_ms must be numbers of milliseconds"
                raise bad_request(text)
        except RequestRefused as refused:
            return _refusal(refused)
        self.vendor.latency = Latency(float(first), float(token))
        return json_reply({"latency_ms": first, "token_ms": token})


def _limit(body: JsonObject, name: str, known: int) -> int:
    value = body.get(name, known)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        message = f"'{name}' must be a whole number"
        raise bad_request(message, name)
    return value


def _whole(text: str, name: str) -> int:
    if not text.isdigit():
        message = f"'{name}' must be a whole number"
        raise bad_request(message, name)
    return int(text)


def _refusal(refused: RequestRefused) -> web.Response:
    return json_reply({"error": refused.failure.message}, 400)
