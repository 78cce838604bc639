"""
Rate limits in the IETF's ``RateLimit-Policy`` and ``RateLimit`` fields.

Written after draft-ietf-httpapi-ratelimit-headers-11. Its registry of quota units has
no tokens; ``tokens`` is ours.
"""

from math import ceil
from typing import Final

from contracts.rates import Measure, RateStanding

WINDOW_S: Final = 60
WINDOWS: Final = {
    Measure.REQUESTS: f";w={WINDOW_S}",
    Measure.TOKENS: f';qu="tokens";w={WINDOW_S}',
    Measure.CONCURRENT: ';qu="concurrent-requests"',
}


def rate_headers(rates: tuple[RateStanding, ...] | None) -> dict[str, str]:
    """Return the fields that tell the limits of a call; none without any."""
    if not rates:
        return {}
    return {
        "ratelimit-policy": ", ".join(map(_policy, rates)),
        "ratelimit": ", ".join(map(_standing, rates)),
    }


def _policy(each: RateStanding) -> str:
    return f'"{each.policy}";q={each.limit}{WINDOWS[each.measure]}'


def _standing(each: RateStanding) -> str:
    resets = "" if each.resets_in_s is None else f";t={ceil(each.resets_in_s)}"
    return f'"{each.policy}";r={each.left}{resets}'
