"""
What both official SDKs share: how they are made, and what their errors mean.

The SDKs cost a second of CPU to import, so that happens on the first call, in a
thread. Their own retries are off: every attempt must have its own row.
"""

import asyncio
import importlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from ai_broker.adapters.vendors.sse import EventTooLarge
from ai_broker.domain.vendor import Failure, FailureKind, VendorError
from telemetry.redaction import redact

C = TypeVar("C")

CONNECT_S: Final = 10.0
IDLE_S: Final = 120.0
DRAIN_S: Final = 0.25
DETAIL_CHARACTERS: Final = 500
_WORD: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_CREDENTIALS: Final = frozenset({401, 403})
_CREDENTIAL_HEADERS: Final = ("authorization", "x-api-key")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long single steps of a call may take, in seconds."""

    connect_s: float = CONNECT_S
    idle_s: float = IDLE_S
    """Between two pieces of an answer."""


class Lazy(Generic[C]):
    """An SDK's client, made at its first use."""

    def __init__(self, module: str, make: Callable[[], C]) -> None:
        self._module = module
        self._make = make
        self._lock = asyncio.Lock()
        self.made: C | None = None

    async def get(self) -> C:
        """Return the client."""
        async with self._lock:
            if self.made is None:
                await asyncio.to_thread(importlib.import_module, self._module)
                # At DEBUG, which OPENAI_LOG would set, the SDKs write whole prompts.
                logging.getLogger(self._module).setLevel(logging.WARNING)
                self.made = self._make()
            return self.made


@contextmanager
def translated(vendor: str, module: str) -> Generator[None]:
    """Turn what an SDK raises into ``VendorError``."""
    import httpx2  # noqa: PLC0415 -- comes with the SDKs, and as lazily

    # Any: both SDKs have the same tree of errors, without a common base.
    sdk: Any = importlib.import_module(module)
    try:
        yield
    except sdk.APIStatusError as error:
        raise VendorError(_status_failure(vendor, error)) from error
    except sdk.APIConnectionError as error:
        raise VendorError(_connection_failure(vendor, error.__cause__)) from error
    except httpx2.TimeoutException as error:
        detail = f"{vendor} went silent in the middle of its answer"
        raise VendorError(Failure(FailureKind.SILENT, detail)) from error
    except httpx2.TransportError as error:
        detail = f"the connection to {vendor} broke in the middle of its answer"
        raise VendorError(Failure(FailureKind.CUT, detail)) from error
    except EventTooLarge as error:
        detail = f"{vendor} sent what is not its protocol: {error}"
        raise VendorError(Failure(FailureKind.MALFORMED, detail)) from error


async def drain(rest: AsyncIterator[object]) -> None:
    """Read what follows the end marker, so that the connection can be used again."""
    import httpx2  # noqa: PLC0415 -- comes with the SDKs, and as lazily

    with suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in rest:
                pass


def malformed(vendor: str, what: str) -> VendorError:
    """Return the error of an answer that is not the protocol."""
    detail = f"{vendor} sent what is not its protocol: {what}"
    return VendorError(Failure(FailureKind.MALFORMED, detail))


def reported(vendor: str, status: int | None, code: str, message: str) -> VendorError:
    """Return the error that a vendor reported inside its answer."""
    word = _word(code) or "error"
    detail = f"{vendor} reported {word}: {_told(message)}"
    return VendorError(Failure(FailureKind.REPORTED, detail, status, word))


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with names in lower case."""
    return {name.lower(): value for name, value in headers.items()}


def _status_failure(vendor: str, error: Any) -> Failure:  # Any: either SDK's
    status: int = error.status_code
    code, message = _described(error.body)
    if status in _CREDENTIALS:
        # Vendors quote a part of the key back; callers must not see even that.
        message = "the credentials that the platform is configured with were refused"
    for name in _CREDENTIAL_HEADERS:
        sent = error.request.headers.get(name, "").removeprefix("Bearer ")
        if sent:
            message = message.replace(sent, "[credential]")
    headers = lower(error.response.headers)
    return Failure(
        FailureKind.REFUSED,
        f"{vendor} answered {status} {code or ''}: {_told(message)}",
        status,
        code,
        headers,
        headers.get("request-id") or headers.get("x-request-id"),
    )


class _Details(BaseModel):
    error_code: str | None = None


class _Error(BaseModel):
    message: str = ""
    type: str | None = None
    code: str | int | None = None
    details: _Details | None = None


class _Envelope(BaseModel):
    error: _Error


def _described(body: object) -> tuple[str | None, str]:
    """Return a vendor's word for an error, and its message."""
    for shape in (_Envelope, _Error):
        try:
            found = shape.model_validate(body)
        except ValidationError:
            continue
        error = found.error if isinstance(found, _Envelope) else found
        detailed = error.details.error_code if error.details else None
        code = detailed or error.code or error.type
        return None if code is None else _word(str(code)), error.message
    return None, body if isinstance(body, str) else "(no readable body)"


def _word(code: str) -> str | None:
    """Return a code that is one; anything longer could quote what people wrote."""
    return code if _WORD.fullmatch(code) else None


def _told(message: str) -> str:
    """Return what callers may read of a vendor's message: no credentials."""
    return str(redact(message))[:DETAIL_CHARACTERS]


def _connection_failure(vendor: str, cause: BaseException | None) -> Failure:
    import httpx2  # noqa: PLC0415 -- comes with the SDKs, and as lazily

    match cause:
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.PoolTimeout():
            detail = f"{vendor} could not be reached"
            return Failure(FailureKind.UNREACHED, detail)
        case httpx2.TimeoutException():
            detail = f"{vendor} did not begin to answer in time"
            return Failure(FailureKind.SILENT, detail)
        case _:
            detail = f"the connection to {vendor} broke before it answered"
            return Failure(FailureKind.LOST, detail)
