import httpx
import pytest
from door_world import (
    BODY,
    BOTH,
    CHAT,
    HELLO,
    MESSAGES,
    POLICY,
    RATES,
    ask,
    error_of,
    failed,
)
from gateway_world import AS_ADMIN, OPENED, Headers, ScriptedBus

from contracts.problems import Code
from faults import DeadlineExceeded, PermanentFault, TransientFault

STATUSES = {
    Code.INVALID: (400, 400),
    Code.UNAUTHENTICATED: (401, 401),
    Code.FORBIDDEN: (403, 403),
    Code.NOT_FOUND: (404, 404),
    Code.CONFLICT: (409, 409),
    Code.IDEMPOTENCY_MISMATCH: (422, 422),
    Code.TOO_LARGE: (413, 413),
    Code.OVERLOADED: (503, 529),
    Code.UNAVAILABLE: (503, 503),
    Code.DEADLINE: (504, 504),
    Code.INTERNAL: (500, 500),
    Code.CANCELLED: (409, 409),
    Code.EMPLOYEE_UNKNOWN: (404, 404),
    Code.MODEL_UNKNOWN: (404, 404),
    Code.TURN_LIMIT: (422, 422),
    Code.TOKEN_LIMIT: (422, 422),
    Code.OUTPUT_INVALID: (422, 422),
    Code.VENDOR_REFUSED: (400, 400),
    Code.VENDOR_UNAVAILABLE: (502, 502),
    Code.STREAM_CUT: (502, 502),
    Code.BUDGET_EXHAUSTED: (402, 402),
    Code.RATE_LIMITED: (429, 429),
}


@BOTH
@pytest.mark.parametrize("code", list(Code))
async def test_every_failure_has_its_status_in_the_vendors_envelope(
    client: httpx.AsyncClient,
    acme: Headers,
    bus: ScriptedBus,
    path: str,
    code: Code,
) -> None:
    """And says whether a retry helps: the SDKs retry by themselves otherwise."""
    bus.scripts.append((OPENED, failed(code)))
    answer = await ask(client, path, acme)
    assert answer.status_code == STATUSES[code][path == MESSAGES]
    assert error_of(path, answer)["message"] == "why"
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    assert answer.headers["x-de-completion-id"] == bus.questions[0].completion_id


@BOTH
async def test_a_wait_is_told_in_both_units_and_bounded(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, path: str
) -> None:
    """Anthropic's SDK obeys up to a minute, and milliseconds come first."""
    bus.scripts.append((OPENED, failed(Code.RATE_LIMITED, retryable=True, after_s=1.5)))
    bus.scripts.append((OPENED, failed(Code.RATE_LIMITED, retryable=True, after_s=900)))
    first, second = [await ask(client, path, acme) for _ in range(2)]
    assert first.headers["retry-after"] == "2"
    assert first.headers["retry-after-ms"] == "1500"
    assert first.headers["x-should-retry"] == "true"
    assert second.headers["retry-after"] == "60"


@BOTH
async def test_a_rate_limit_is_told_as_the_ietf_has_it(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, path: str
) -> None:
    """429 with what is limited and when to come, in the vendor's envelope."""
    refused = failed(Code.RATE_LIMITED, retryable=True, after_s=1.5)
    told = (
        RATES[0].model_copy(update={"left": 0, "resets_in_s": 1.5}),
        *(each.model_copy(update={"resets_in_s": None}) for each in RATES[1:]),
    )
    error = refused.error.model_copy(update={"rates": told})
    bus.scripts.append((OPENED, refused.model_copy(update={"error": error})))
    answer = await ask(client, path, acme, stream=True)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "2"
    assert answer.headers["ratelimit-policy"] == POLICY
    assert answer.headers["ratelimit"] == (
        '"api-key-requests";r=0;t=2, "tenant-tokens";r=20, "user-concurrent";r=7'
    )
    assert error_of(path, answer)["type"] == "rate_limit_error"


@BOTH
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (DeadlineExceeded("its deadline passed"), 504),
        (PermanentFault("above the limit", code=Code.TOO_LARGE), 413),
        (TransientFault("full", code=Code.OVERLOADED), 503),
    ],
)
async def test_a_fault_on_the_way_is_the_vendors_error(
    client: httpx.AsyncClient,
    acme: Headers,
    bus: ScriptedBus,
    path: str,
    fault: Exception,
    status: int,
) -> None:
    """None of these is asked again: it would not help, or the client knows better."""
    bus.scripts.append((fault,))
    answer = await ask(client, path, acme)
    wanted = 529 if (status, path) == (503, MESSAGES) else status
    assert answer.status_code == wanted
    assert error_of(path, answer)["message"] == str(fault)
    assert len(bus.questions) == 1


@BOTH
async def test_a_key_with_another_question_is_422(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, path: str
) -> None:
    """Not 409, which the SDKs would try again."""
    bus.scripts.append((OPENED, failed(Code.CONFLICT)))
    answer = await ask(client, path, acme | {"idempotency-key": "k"})
    assert answer.status_code == 422
    assert "Idempotency-Key" in error_of(path, answer)["message"]


@BOTH
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-request-timeout", "soon"),
        ("x-request-timeout", "-1"),
        ("x-request-timeout", "nan"),
        ("x-de-drop-unsupported", "yes"),
        ("x-de-cache-ttl", "-1"),
        ("x-de-cache-ttl", "1.5"),
        ("x-de-cache-ttl", "9999999999"),
        ("idempotency-key", "k" * 256),
    ],
)
async def test_a_wrong_header_is_named(
    client: httpx.AsyncClient, acme: Headers, path: str, name: str, value: str
) -> None:
    """In the vendor's envelope."""
    answer = await ask(client, path, acme | {name: value})
    assert answer.status_code == 400
    assert name in error_of(path, answer)["message"]


@BOTH
@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'{"model":' + b"[" * 100_000, "JSON"),
        (b'{"model":' + b"[" * 100 + b"]" * 100 + b"}", "nested"),
        (b'{"model": NaN}', "JSON"),
        (b'{"seed": 99999999999999999999}', "64 bits"),
        (b'{"model": "\\ud800"}', "JSON"),
        (b"{}", "model"),
    ],
)
async def test_garbage_gets_a_clear_error(
    client: httpx.AsyncClient, acme: Headers, path: str, content: bytes, word: str
) -> None:
    """Never a 500; deep JSON breaks nothing."""
    answer = await client.post(path, content=content, headers=acme)
    assert answer.status_code == 400, answer.text
    assert word in error_of(path, answer)["message"]
    assert answer.headers["x-should-retry"] == "false"


@BOTH
async def test_a_wrong_key_speaks_the_vendors_language(
    client: httpx.AsyncClient, path: str
) -> None:
    """So that the SDK raises its own authentication error."""
    answer = await ask(client, path, {"authorization": "Bearer nonsense"})
    assert answer.status_code == 401
    error = error_of(path, answer)
    assert error["type"] == (
        "invalid_request_error" if path == CHAT else "authentication_error"
    )
    assert answer.headers["www-authenticate"] == "Bearer"


@BOTH
async def test_an_admin_key_has_no_tenant_to_pay(
    client: httpx.AsyncClient, path: str
) -> None:
    """403, in the vendor's envelope."""
    answer = await ask(client, path, AS_ADMIN)
    assert answer.status_code == 403
    assert error_of(path, answer)["type"] == "permission_error"


@BOTH
async def test_another_method_is_the_vendors_error_too(
    client: httpx.AsyncClient, acme: Headers, path: str
) -> None:
    """405 and its envelope."""
    answer = await client.get(path, headers=acme)
    assert answer.status_code == 405
    assert error_of(path, answer)["message"]


@BOTH
async def test_images_fit_and_more_is_413(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, path: str
) -> None:
    """Six mebibytes here, where other paths take a quarter of one."""
    bus.scripts.append(HELLO)
    content = "x" * 5_000_000
    messages = [{"role": "user", "content": content}]
    assert (await ask(client, path, acme, messages=messages)).status_code == 200
    answer = await client.post(path, content=b"x" * 7_000_000, headers=acme)
    assert answer.status_code == 413
    error = error_of(path, answer)
    assert "request_too_large" in (error.get("code"), error["type"])


@BOTH
async def test_a_bug_is_told_in_the_vendors_words(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, path: str
) -> None:
    """500 in its envelope; the log has the exception."""
    bus.scripts.append((ValueError("a bug"),))
    answer = await ask(client, path, acme)
    assert answer.status_code == 500
    assert "a bug" not in answer.text
    assert error_of(path, answer)["message"]


async def test_a_thread_is_refused_so_that_the_sdk_goes_on_without(
    client: httpx.AsyncClient, acme: Headers
) -> None:
    """Anthropic's tool runner reads this very code and sends everything each time."""
    answer = await ask(client, MESSAGES, acme, thread={"type": "create"})
    assert answer.status_code == 400
    details = error_of(MESSAGES, answer)["details"]
    assert details["error_code"] == "thread_unsupported_request"


async def test_counting_beforehand_is_refused_in_anthropics_words(
    client: httpx.AsyncClient, acme: Headers
) -> None:
    """With the reason, and where the counts are."""
    answer = await client.post(f"{MESSAGES}/count_tokens", json=BODY, headers=acme)
    assert answer.status_code == 404
    assert "usage" in error_of(MESSAGES, answer)["message"]
