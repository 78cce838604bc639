"""
Logs as JSON lines on stdout, each with its trace, task, tenant and service.

Exceptions are written as type, code, text and frames: no locals, and of a
validation error only where and why, because its text quotes what people sent.
"""

import logging
import sys
import traceback
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, cast

import orjson
import structlog

from telemetry.names import INSTANCE, SERVICE, SPAN_ID, TRACE_ID
from telemetry.redaction import redact, redact_mapping
from telemetry.tracing import span_id, trace_id

FRAMES_MAX: Final = 12
MEMBERS_MAX: Final = 8
_CHAIN_MAX: Final = 4
_QUIET_LIBRARIES: Final = (
    "uvicorn.error",
    "uvicorn.access",
    "nats",
    "httpx",
    "asyncio",
)

# structlog's own alias: processors may add any value that the renderer knows.
EventDict = MutableMapping[str, Any]


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """Return the process's logger; may be called at import."""
    return structlog.get_logger()


@contextmanager
def bind(
    *, task_id: str | None = None, tenant: str | None = None, **more: str | int
) -> Generator[None]:
    """Put these ids on every log line written inside the block."""
    given: dict[str, str | int] = dict(more)
    if task_id is not None:
        given["task_id"] = task_id
    if tenant is not None:
        given["tenant"] = tenant
    with structlog.contextvars.bound_contextvars(**given):
        yield


def configure_logs(
    service: str, instance: str, log_level: str, stream: BinaryIO | None = None
) -> None:
    """
    Write JSON lines from now on, the standard library's log records too.

    Args:
        service: The service's name.
        instance: This process's id.
        log_level: ``DEBUG``, ``INFO``, ``WARNING``, ``ERROR`` or ``CRITICAL``.
        stream: Where to; standard output when absent.
    """
    level = logging.getLevelNamesMapping().get(log_level.upper(), logging.INFO)
    target = stream if stream is not None else sys.stdout.buffer
    process = {SERVICE: service, INSTANCE: instance}

    def add_process(_logger: object, _method: str, event: EventDict) -> EventDict:
        event.update(process)
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_error,
            _redact,
            # What follows is our own, and nothing in it is private.
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_process,
            _add_trace,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    root.setLevel(max(level, logging.WARNING))
    for name in _QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def silence() -> None:
    """Write nothing from now on; for simulations."""
    structlog.configure(
        processors=[_drop],
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )


class _Bridge(logging.Handler):
    """Hands the standard library's records to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            get_logger().log(
                record.levelno,
                "library_logged",
                logger=record.name,
                detail=record.getMessage(),
                exc_info=record.exc_info,
            )
        except Exception:  # noqa: BLE001 -- logging must never raise into its caller
            self.handleError(record)


def _add_trace(_logger: object, _method: str, event: EventDict) -> EventDict:
    current = trace_id()
    if current is not None:
        event.setdefault(TRACE_ID, current)
        event.setdefault(SPAN_ID, span_id())
    return event


def _add_error(_logger: object, _method: str, event: EventDict) -> EventDict:
    given = event.pop("exc_info", None)
    if isinstance(given, tuple):
        # The standard library's (type, error, traceback).
        given = cast("tuple[object, object, object]", given)[1]
    error = given if isinstance(given, BaseException) else sys.exc_info()[1]
    if given and error is not None:
        event["error"] = describe(error)
    return event


def describe(error: BaseException) -> dict[str, object]:
    """Return an exception as a log field: type, code, detail, frames, cause."""
    return _describe(error, 0)


def _describe(error: BaseException, depth: int) -> dict[str, object]:
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
    described: dict[str, object] = {
        "type": type(error).__qualname__,
        "detail": redact(_detail(error)),
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    code = getattr(error, "code", None)
    if isinstance(code, str):
        described["code"] = code
    cause = error.__cause__ or error.__context__
    if cause is not None and depth < _CHAIN_MAX:
        described["cause"] = _describe(cause, depth + 1)
    if isinstance(error, BaseExceptionGroup) and depth < _CHAIN_MAX:
        group = cast("BaseExceptionGroup[BaseException]", error)
        described["members"] = [
            _describe(each, depth + 1) for each in group.exceptions[:MEMBERS_MAX]
        ]
    return described


def _detail(error: BaseException) -> str:
    # pydantic's ValidationError, recognised by shape so that nothing here imports
    # pydantic: its text would quote the input.
    list_errors = getattr(error, "errors", None)
    if type(error).__name__ == "ValidationError" and callable(list_errors):
        count = getattr(error, "error_count", None)
        return f"{count() if callable(count) else 'some'} fields are invalid"
    return str(error)


def _redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    # ``error`` is masked already, and its frames lie deeper than redact goes.
    error = event.pop("error", None)
    clean: EventDict = redact_mapping(event)
    if error is not None:
        clean["error"] = error if isinstance(error, dict) else redact(error)
    return clean


def _render(_logger: object, _method: str, event: EventDict) -> bytes:
    return orjson.dumps(event, default=str)


def _drop(_logger: object, _method: str, _event: EventDict) -> EventDict:
    raise structlog.DropEvent
