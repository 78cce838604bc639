"""
Rate limits in the IETF's ``RateLimit-Policy`` and ``RateLimit`` fields.

Written after draft-ietf-httpapi-ratelimit-headers-11. Its registry of quota units has
no tokens; ``tokens`` is ours. Beside them stand the fields that the path's vendor has
for requests and tokens, of the limit with the least left: existing clients pace
themselves by those.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from math import ceil
from typing import Final

from contracts.rates import Measure, RateStanding
from gateway.entrypoints.dialect import Dialect

WINDOW_S: Final = 60
WINDOWS: Final = {
    Measure.REQUESTS: f";w={WINDOW_S}",
    Measure.TOKENS: f';qu="tokens";w={WINDOW_S}',
    Measure.CONCURRENT: ';qu="concurrent-requests"',
}
VENDORS_MEASURES: Final = (Measure.REQUESTS, Measure.TOKENS)
SHAPES: Final = {
    Dialect.OPENAI: "x-ratelimit-{part}-{measure}",
    Dialect.ANTHROPIC: "anthropic-ratelimit-{measure}-{part}",
}


def rate_headers(
    rates: tuple[RateStanding, ...] | None, dialect: Dialect, now: datetime
) -> dict[str, str]:
    """Return the fields that tell the limits of a call; none without any."""
    if not rates:
        return {}
    headers = {
        "ratelimit-policy": ", ".join(map(_policy, rates)),
        "ratelimit": ", ".join(map(_standing, rates)),
    }
    for measure in VENDORS_MEASURES:
        tightest = _tightest(each for each in rates if each.measure is measure)
        if tightest is not None:
            headers |= _vendors(tightest, dialect, now)
    return headers


def _policy(each: RateStanding) -> str:
    return f'"{each.policy}";q={each.limit}{WINDOWS[each.measure]}'


def _standing(each: RateStanding) -> str:
    resets = "" if each.resets_in_s is None else f";t={ceil(each.resets_in_s)}"
    return f'"{each.policy}";r={each.left}{resets}'


def _tightest(rates: Iterable[RateStanding]) -> RateStanding | None:
    return min(rates, key=lambda each: each.left, default=None)


def _vendors(each: RateStanding, dialect: Dialect, now: datetime) -> dict[str, str]:
    shape = SHAPES.get(dialect)
    if shape is None:
        return {}
    resets_in_s = each.resets_in_s or 0.0
    # Rounded up, as a client that comes too early is refused again.
    reset = f"{ceil(resets_in_s * 1000)}ms"
    if dialect is Dialect.ANTHROPIC:
        at = datetime.fromtimestamp(ceil(now.timestamp() + resets_in_s), UTC)
        reset = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    values = {"limit": str(each.limit), "remaining": str(each.left), "reset": reset}
    return {
        shape.format(part=part, measure=each.measure): value
        for part, value in values.items()
    }
