"""Log lines name their trace and keep secrets and prompts out."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

import telemetry
from faults import TransientFault
from telemetry.logs import configure_logs, silence


@pytest.fixture
def written() -> Iterator[io.BytesIO]:
    """Collect what a service writes."""
    stream = io.BytesIO()
    handlers = logging.getLogger().handlers
    configure_logs("ai-broker", "broker_1", "INFO", stream)
    yield stream
    structlog.reset_defaults()
    logging.getLogger().handlers = handlers


def _lines(stream: io.BytesIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_names_trace_task_tenant_and_process(
    trace_file: Path, written: io.BytesIO
) -> None:
    """Whoever finds a line finds its trace, task, tenant and process."""
    log = telemetry.get_logger()
    running = telemetry.configure("ai-broker", "broker_1", trace_file=trace_file)
    configure_logs("ai-broker", "broker_1", "INFO", written)
    with telemetry.bind(task_id="task_1", tenant="acme"), telemetry.span("step"):
        log.info("step_finished", turns=2, input_tokens=12)
        trace = telemetry.trace_id()
    log.debug("not_written")
    log.info("after")
    running.shutdown()

    first, second = _lines(written)
    assert first["event"] == "step_finished"
    assert first["level"] == "info"
    assert first["trace_id"] == trace
    assert first["task_id"] == "task_1"
    assert first["tenant"] == "acme"
    assert first["service"] == "ai-broker"
    assert first["instance"] == "broker_1"
    assert first["input_tokens"] == 12
    assert "task_id" not in second
    assert "trace_id" not in second


def test_private_fields_and_secrets_are_masked(written: io.BytesIO) -> None:
    """Neither a named field nor a secret inside a text or a list gets out."""
    telemetry.get_logger().info(
        "request_refused",
        goal="Buy the competitor",
        headers={"Authorization": "Bearer abc.def", "accept": "*/*"},
        nats_password="hunter2",
        detail="key de_k1_0123abcd at nats://user:pass@host was refused",
        calls=[{"api_key": "sk-12345678"}],
    )

    text = written.getvalue().decode()
    for private in ("competitor", "abc.def", "hunter2", "0123abcd", "pass@", "sk-1"):
        assert private not in text
    assert _lines(written)[0]["headers"]["accept"] == "*/*"


def test_an_exception_is_described_with_its_cause(written: io.BytesIO) -> None:
    """Type, code, frames and cause are written; a prompt-bearing text is not."""

    class ValidationError(Exception):
        """Shaped as pydantic's."""

        def errors(self) -> list[str]:
            return ["goal"]

        def error_count(self) -> int:
            return 1

    def fail() -> None:
        try:
            raise ValidationError("input_value='my private goal'")  # noqa: TRY301
        except ValidationError as cause:
            raise TransientFault("ask the vendor", code="overloaded") from cause

    log = telemetry.get_logger()
    try:
        fail()
    except TransientFault:
        log.exception("attempt_failed")

    error = _lines(written)[0]["error"]
    assert error["type"] == "TransientFault"
    assert error["code"] == "overloaded"
    assert error["frames"][-1].endswith("fail")
    assert error["cause"]["detail"] == "1 fields are invalid"
    assert b"private goal" not in written.getvalue()


def test_library_records_become_lines(written: io.BytesIO) -> None:
    """What a library logs is a JSON line too, from warnings up."""
    logging.getLogger("nats.client").info("chatter")
    logging.getLogger("nats.client").warning("slow consumer %s", "sub")
    (line,) = _lines(written)
    assert line["detail"] == "slow consumer sub"
    assert line["level"] == "warning"
    assert line["logger"] == "nats.client"


def test_silence_writes_nothing(
    written: io.BytesIO, capsys: pytest.CaptureFixture[str]
) -> None:
    """A simulation of a million steps prints none of them."""
    silence()
    telemetry.get_logger().error("loud")
    assert written.getvalue() == b""
    assert capsys.readouterr().out == ""
