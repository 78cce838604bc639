"""JSON as it comes off the wire, and the narrowing that makes it safe to read."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = dict[str, "Json"]

# Made once: ``json.dumps`` makes an encoder for each call that wants no blanks.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class FailureKind(StrEnum):
    """Why a call is refused; each protocol has its own status and words for it."""

    BAD_REQUEST = "bad_request"
    UNAUTHENTICATED = "unauthenticated"
    NO_MODEL = "no_model"
    UNPAID = "unpaid"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    TIMED_OUT = "timed_out"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    CONTEXT_EXCEEDED = "context_exceeded"
    RATE_LIMITED = "rate_limited"
    TOKENS_LIMITED = "tokens_limited"
    SPEND_LIMITED = "spend_limited"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    UNAVAILABLE = "unavailable"
    BAD_GATEWAY = "bad_gateway"
    GATEWAY_TIMEOUT = "gateway_timeout"


@dataclass(frozen=True)
class Failure:
    """
    A refusal before a protocol has put it into its envelope.

    ``param`` names the offending request field, where there is one;
    ``headers`` are sent with it (``retry-after`` and the like).
    """

    kind: FailureKind
    message: str
    param: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


class RequestRefused(Exception):
    """The request cannot be served; carries the refusal to send."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def bad_request(message: str, param: str | None = None) -> RequestRefused:
    """Return the refusal of a request that breaks the protocol."""
    return RequestRefused(Failure(FailureKind.BAD_REQUEST, message, param))


def parse_object(body: bytes) -> JsonObject:
    """
    Parse a request body.

    Raises:
        RequestRefused: The body is not a JSON object.
    """
    try:
        value: Json = json.loads(body)
    except (ValueError, RecursionError) as cause:
        message = f"We could not parse the JSON body of your request: {cause}"
        raise bad_request(message) from cause
    if not isinstance(value, dict):
        message = "The JSON body of the request must be an object."
        raise bad_request(message)
    return value


def text_of(value: Json, otherwise: str = "") -> str:
    """Return the string, or ``otherwise`` for anything else."""
    return value if isinstance(value, str) else otherwise


def object_of(value: Json) -> JsonObject:
    """Return the object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def list_of(value: Json) -> list[Json]:
    """Return the list, or an empty one for anything else."""
    return value if isinstance(value, list) else []


def compact(value: Json) -> str:
    """Render JSON without needless bytes, non-ASCII kept as it is."""
    return _ENCODER.encode(value)
