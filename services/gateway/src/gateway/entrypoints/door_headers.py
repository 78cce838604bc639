"""What the headers of a compatible request say beside the vendor's protocol."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from contracts.problems import Code
from messaging.refusals import Refused, refuse

TIMEOUT: Final = "x-request-timeout"
SDK_TIMEOUT: Final = "x-stainless-read-timeout"
DROP: Final = "x-de-drop-unsupported"
CACHE_TTL: Final = "x-de-cache-ttl"
IDEMPOTENCY_KEY: Final = "idempotency-key"
KEY_CHARACTERS_MAX: Final = 255
CACHE_TTL_MAX_S: Final = 30 * 86_400
BEARER: Final = "bearer "


@dataclass(frozen=True, slots=True)
class DoorHeaders:
    """What was asked for by header; None where nothing was said."""

    api_key: str | None
    timeout_s: float | None
    sdk_timeout_s: float | None
    """How long the SDK waits for more, which it says by itself."""
    idempotency_key: str | None
    drop_unsupported: bool
    cache_ttl_s: int | None
    """0 takes no kept answer, whatever the key says."""


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> DoorHeaders:
    """
    Return what the headers say.

    Raises:
        messaging.refusals.Refused: ``invalid``, naming the header.
    """
    found = {
        name.decode("latin-1"): value.decode("latin-1").strip() for name, value in raw
    }
    return DoorHeaders(
        api_key=_api_key(found),
        timeout_s=_timeout_s(found.get(TIMEOUT)),
        sdk_timeout_s=_positive(found.get(SDK_TIMEOUT)),
        idempotency_key=_idempotency_key(found.get(IDEMPOTENCY_KEY)),
        drop_unsupported=_drop(found.get(DROP)),
        cache_ttl_s=_cache_ttl_s(found.get(CACHE_TTL)),
    )


def _api_key(found: dict[str, str]) -> str | None:
    bearer = found.get("authorization", "")
    if bearer[: len(BEARER)].lower() == BEARER:
        return bearer[len(BEARER) :].strip()
    return found.get("x-api-key")


def _timeout_s(value: str | None) -> float | None:
    timeout_s = _positive(value)
    if value is not None and timeout_s is None:
        raise _unfit(TIMEOUT, "must be a number of seconds above 0")
    return timeout_s


def _idempotency_key(value: str | None) -> str | None:
    if value is not None and not 1 <= len(value) <= KEY_CHARACTERS_MAX:
        raise _unfit(IDEMPOTENCY_KEY, f"must have 1 to {KEY_CHARACTERS_MAX} characters")
    return value


def _drop(value: str | None) -> bool:
    if value is not None and value not in {"true", "false"}:
        raise _unfit(DROP, "must be true or false")
    return value == "true"


def _cache_ttl_s(value: str | None) -> int | None:
    if value is None:
        return None
    is_whole = value.isascii() and value.isdecimal() and len(value) <= len("2592000")
    if not is_whole or not 0 <= int(value) <= CACHE_TTL_MAX_S:
        raise _unfit(CACHE_TTL, f"must be whole seconds from 0 to {CACHE_TTL_MAX_S}")
    return int(value)


def _positive(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    # Not a number fails the comparison too.
    return number if number > 0 else None


def _unfit(name: str, detail: str) -> Refused:
    return refuse(Code.INVALID, f"header {name}: {detail}")
