"""How a vendor's errors read, by whatever transport they came."""

import re
from collections.abc import Mapping
from typing import Final

import orjson

from ai_broker.domain.catalogue import Endpoint
from ai_broker.domain.vendor import Failure, FailureKind, VendorError
from contracts.message import Json
from telemetry.redaction import redact

DETAIL_CHARACTERS: Final = 500
HIDDEN: Final = "[credential]"
_WORD: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_CREDENTIALS: Final = frozenset({401, 403})
_REDIRECTS: Final = range(300, 400)


def refused(
    endpoint: Endpoint, status: int, headers: Mapping[str, str], body: bytes
) -> VendorError:
    """Return the error of a call that was answered with another status than 2xx."""
    vendor = endpoint.entry.name
    code, message = _described(body)
    if endpoint.key:
        message = message.replace(endpoint.key, HIDDEN)
    if status in _CREDENTIALS:
        # Vendors quote a part of the key back; callers must not see even that.
        message = "the credentials that the platform is configured with were refused"
    elif status in _REDIRECTS:
        message = "redirects are not followed: correct the vendor's address"
    failure = Failure(
        FailureKind.REFUSED,
        f"{vendor} answered {status} {code or ''}: {_told(message)}",
        status,
        code,
        headers,
        headers.get("request-id") or headers.get("x-request-id"),
    )
    return VendorError(failure)


def reported(vendor: str, status: int | None, code: str, message: str) -> VendorError:
    """Return the error that a vendor reported inside its answer."""
    word = _word(code) or "error"
    detail = f"{vendor} reported {word}: {_told(message)}"
    return VendorError(Failure(FailureKind.REPORTED, detail, status, word))


def malformed(vendor: str, what: object) -> VendorError:
    """Return the error of an answer that is not the protocol."""
    detail = f"{vendor} sent what is not its protocol: {what}"
    return VendorError(Failure(FailureKind.MALFORMED, detail))


def unreached(vendor: str) -> VendorError:
    """Return the error of a call that never left."""
    return VendorError(Failure(FailureKind.UNREACHED, f"{vendor} could not be reached"))


def silent(vendor: str, *, answering: bool) -> VendorError:
    """Return the error of a vendor that says nothing, or nothing more."""
    detail = "went silent in the middle of its answer"
    if not answering:
        detail = "did not begin to answer in time"
    return VendorError(Failure(FailureKind.SILENT, f"{vendor} {detail}"))


def broken(vendor: str, *, answering: bool) -> VendorError:
    """Return the error of a connection that broke."""
    kind = FailureKind.CUT if answering else FailureKind.LOST
    when = "in the middle of its answer" if answering else "before it answered"
    return VendorError(Failure(kind, f"the connection to {vendor} broke {when}"))


def _described(body: bytes) -> tuple[str | None, str]:
    """Return a vendor's word for an error, and its message."""
    try:
        found: Json = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None, body.decode("utf-8", "replace").strip() or "(no readable body)"
    if isinstance(found, list) and found:
        found = found[0]  # Google's compatible endpoint wraps it in a list
    if not isinstance(found, dict):
        return None, str(found)
    error = found.get("error", found)
    if not isinstance(error, dict):
        return None, str(error)
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    code = code or error.get("code") or error.get("type")
    message = error.get("message")
    if message is None and error is found:
        message = found.get("detail")  # vLLM's and FastAPI's validation errors
    word = None if code is None else _word(str(code))
    return word, str(message or "(no message)")


def _word(code: str) -> str | None:
    """Return a code that is one; anything longer could quote what people wrote."""
    return code if _WORD.fullmatch(code) else None


def _told(message: str) -> str:
    """Return what callers may read of a vendor's message: no credentials."""
    return str(redact(message))[:DETAIL_CHARACTERS]
