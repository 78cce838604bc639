import asyncio
import json
from datetime import datetime
from typing import Any

import httpx
import pytest
from door_world import (
    BODY,
    BOTH,
    CHAT,
    CUT,
    HELLO,
    MESSAGES,
    POLICY,
    RATED,
    TEXT,
    ask,
    failed,
)
from gateway_world import (
    AS_ADMIN,
    OPENED,
    Await,
    Headers,
    ScriptedBus,
    finished,
    tenant_headers,
)

from contracts.frames import Answerer, Ping, TextDelta
from contracts.problems import Code
from determinism import SystemClock
from faults import TransientFault
from gateway.app import Composed
from telemetry.face import HttpServer


@BOTH
async def test_an_answer_comes_whole_and_says_who_gave_it(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, path: str
) -> None:
    """In the vendor's form; what is known of it stands in headers."""
    bus.scripts.append(
        (OPENED, Ping(), finished(TEXT, is_cached=True, dropped=("seed",)))
    )
    answer = await ask(client, path, acme)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    if path == CHAT:
        assert body["choices"][0]["message"]["content"] == "Hello"
    else:
        assert body["content"] == [{"type": "text", "text": "Hello", "citations": None}]
    assert body["model"] == answer.headers["x-de-model"] == "sandbox-small"
    assert answer.headers["x-de-vendor"] == "sandbox-openai"
    assert answer.headers["x-de-attempts"] == "0"
    assert answer.headers["x-de-cache"] == "hit"
    assert answer.headers["x-de-dropped"] == "seed"
    (question,) = bus.questions
    assert answer.headers["x-de-completion-id"] == question.completion_id
    assert question.tenant == "acme"
    assert not question.deltas


@BOTH
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_answer_says_what_is_left_of_its_rate_limits(
    client: httpx.AsyncClient,
    acme: Headers,
    bus: ScriptedBus,
    path: str,
    *,
    is_streamed: bool,
) -> None:
    """In the IETF's fields, in whole seconds; without limits there are none."""
    bus.scripts += [(RATED, *HELLO[1:]), HELLO]
    limited, free = [
        await ask(client, path, acme, stream=is_streamed) for _ in range(2)
    ]
    assert limited.status_code == free.status_code == 200
    assert limited.headers["ratelimit-policy"] == POLICY
    assert limited.headers["ratelimit"] == (
        '"api-key-requests";r=59;t=1, "tenant-tokens";r=20;t=60, "user-concurrent";r=7'
    )
    assert not [name for name in free.headers if "ratelimit" in name]
    if path == CHAT:
        assert limited.headers["x-ratelimit-limit-requests"] == "60"
        assert limited.headers["x-ratelimit-remaining-tokens"] == "20"
        assert limited.headers["x-ratelimit-reset-tokens"] == "59500ms"
    else:
        assert limited.headers["anthropic-ratelimit-requests-limit"] == "60"
        assert limited.headers["anthropic-ratelimit-tokens-remaining"] == "20"
        reset = datetime.fromisoformat(
            limited.headers["anthropic-ratelimit-tokens-reset"]
        )
        assert 50 < (reset - SystemClock().now()).total_seconds() <= 61
    assert len([name for name in limited.headers if "ratelimit" in name]) == 8


@BOTH
async def test_a_stream_comes_frame_by_frame(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, path: str
) -> None:
    """As server-sent events with the vendor's proper end."""
    bus.scripts.append(HELLO)
    answer = await ask(client, path, acme, stream=True)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "Hello" in answer.text
    end = "data: [DONE]\n\n" if path == CHAT else 'data: {"type":"message_stop"}\n\n'
    assert answer.text.endswith(end)
    assert bus.questions[0].deltas


@BOTH
async def test_a_cut_before_any_content_is_asked_again(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, path: str
) -> None:
    """Under the same id, so that nothing is paid twice; the client sees one answer."""
    gone = TransientFault("no ai-broker listens now", retry_after_s=0.01)
    stopping = failed(Code.UNAVAILABLE, retryable=True)
    bus.scripts += [
        (OPENED, Ping(), CUT),
        (gone,),
        (OPENED, stopping),
        (OPENED,),
        HELLO,
    ]
    answer = await ask(client, path, acme, stream=True)
    assert "Hello" in answer.text
    assert len({each.completion_id for each in bus.questions}) == 1
    assert len(bus.questions) == 5


@BOTH
async def test_asking_again_has_an_end(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, path: str
) -> None:
    """After a few times the client is told, and that a retry may help."""
    bus.scripts += [(CUT,)] * 9
    answer = await ask(client, path, acme)
    assert answer.status_code == 502
    assert answer.headers["x-should-retry"] == "true"
    assert len(bus.questions) == 5


@BOTH
@pytest.mark.parametrize("end", [CUT, failed(Code.VENDOR_UNAVAILABLE), None])
async def test_a_cut_after_content_never_ends_cleanly(
    client: httpx.AsyncClient,
    acme: Headers,
    bus: ScriptedBus,
    path: str,
    end: Any,
) -> None:
    """An error in the vendor's protocol, no proper end, and no second answer."""
    told = (OPENED, TextDelta(part=0, text="Hel"))
    bus.scripts.append(told if end is None else (*told, end))
    answer = await ask(client, path, acme, stream=True)
    assert "Hel" in answer.text
    assert "[DONE]" not in answer.text
    assert "message_stop" not in answer.text
    last = answer.text.strip().split("\n\n")[-1]
    said = json.loads(last.partition("data: ")[2])
    assert said["error"]["message"]
    assert last.startswith("event: error" if path == MESSAGES else "data: ")
    assert len(bus.questions) == 1


@BOTH
async def test_a_contradicting_end_is_an_error(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, path: str
) -> None:
    """What was told and what was stored must be one answer."""
    bus.scripts.append((OPENED, TextDelta(part=0, text="Goodbye"), finished(TEXT)))
    answer = await ask(client, path, acme, stream=True)
    assert "is not the one that was begun" in answer.text
    assert "[DONE]" not in answer.text
    assert "message_stop" not in answer.text


@BOTH
async def test_an_idempotency_key_is_the_completions_id(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, path: str
) -> None:
    """The same of one tenant, another of another's; without one, a new id each time."""
    globex = await tenant_headers(client, "globex")
    key = {"idempotency-key": "k"}
    for headers in (acme | key, acme | key, globex | key, acme, acme):
        bus.scripts.append(HELLO)
        assert (await ask(client, path, headers)).status_code == 200
    first, again, other, fresh, newer = (each.completion_id for each in bus.questions)
    assert first == again
    assert len({first, other, fresh, newer}) == 4


@BOTH
async def test_headers_say_what_bodies_cannot(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, path: str
) -> None:
    """Dropping, caching and patience are asked for by header."""
    bus.scripts.append(HELLO)
    more = {
        "x-de-drop-unsupported": "true",
        "x-de-cache-ttl": "3600",
        "x-request-timeout": "20",
    }
    before = SystemClock().now()
    assert (await ask(client, path, acme | more)).status_code == 200
    (question,) = bus.questions
    assert question.drop_unsupported
    assert question.cache_ttl_s == 3600
    assert 15 < (question.deadline - before).total_seconds() < 25


@BOTH
@pytest.mark.parametrize(
    ("streamed", "longest_s"), [(False, 31), (True, 601)], ids=["whole", "stream"]
)
async def test_the_sdks_patience_bounds_a_whole_answer(
    client: httpx.AsyncClient,
    acme: Headers,
    bus: ScriptedBus,
    path: str,
    longest_s: float,
    *,
    streamed: bool,
) -> None:
    """A stream's read timeout is only about the pause between two pieces."""
    bus.scripts.append(HELLO)
    headers = acme | {"x-stainless-read-timeout": "30.0"}
    before = SystemClock().now()
    await ask(client, path, headers, stream=streamed)
    waits_s = (bus.questions[0].deadline - before).total_seconds()
    assert longest_s - 20 < waits_s < longest_s


@BOTH
async def test_x_api_key_and_bearer_both_work(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, path: str
) -> None:
    """Each SDK sends its own."""
    bus.scripts.append(HELLO)
    key = acme["authorization"].removeprefix("Bearer ")
    assert (await ask(client, path, {"x-api-key": key})).status_code == 200
    assert bus.questions[0].api_key_id == key.split("_")[1]


@BOTH
async def test_a_silent_stream_begins_after_a_while(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, path: str
) -> None:
    """Proxies give up on silence; an early failure still has its own status."""
    gone = failed(Code.BUDGET_EXHAUSTED)
    bus.scripts.append((OPENED, Ping(), Ping(), Ping(), gone))
    early = await ask(client, path, acme, stream=True)
    assert early.status_code == 402
    bus.scripts.append(
        (OPENED, *[Ping()] * 5, TextDelta(part=0, text="Hello"), finished(TEXT))
    )
    answer = await ask(client, path, acme, stream=True)
    assert answer.status_code == 200
    assert answer.text.count("ping") == (2 if path == CHAT else 4)
    assert "Hello" in answer.text
    bus.scripts.append((OPENED, *[Ping()] * 4, gone))
    late = await ask(client, path, acme, stream=True)
    assert late.status_code == 200
    assert "why" in late.text


@BOTH
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_leaves_cancels_the_call(
    gateway: Composed,
    client: httpx.AsyncClient,
    acme: Headers,
    bus: ScriptedBus,
    path: str,
    *,
    streamed: bool,
) -> None:
    """The vendor is hung up on, and the slot is free again."""
    told = (TextDelta(part=0, text="Hel"),) if streamed else ()
    bus.scripts.append((OPENED, *told, Await(), failed(Code.CANCELLED)))
    body = json.dumps(BODY | {"stream": streamed}).encode()
    head = [
        f"POST {path} HTTP/1.1",
        "host: x",
        f"authorization: {acme['authorization']}",
        f"content-length: {len(body)}",
    ]
    async with HttpServer(gateway.app, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        async with asyncio.timeout(5):
            if streamed:
                await reader.readuntil(b"Hel")
            stream = await bus.streams.get()
            writer.close()
            await stream.cancelled.wait()
    assert stream.cancelled.is_set()


async def test_as_many_answers_as_allowed_are_under_way(
    gateway: Composed, client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus
) -> None:
    """One more is told at once that it is too many."""
    bus.scripts += [(OPENED, Await(), finished(TEXT))] * 2
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(ask(client, CHAT, acme))
        streams = [await bus.streams.get() for _ in range(2)]
        third = await ask(client, MESSAGES, acme)
        for stream in streams:
            await stream.cancel()
    assert third.status_code == 529
    assert third.headers["x-should-retry"] == "true"


@BOTH
async def test_a_stream_says_in_its_head_who_answers(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, path: str
) -> None:
    """As soon as there is content; not where an older broker does not say."""
    by = Answerer(vendor="sandbox-openai", model="sandbox-small", is_cached=True)
    told = TextDelta(part=0, text="Hel", by=by)
    rest = TextDelta(part=0, text="lo")
    bus.scripts += [(OPENED, told, rest, HELLO[-1]), HELLO, (OPENED, HELLO[-1])]
    first, older, at_once = [
        await ask(client, path, acme, stream=True) for _ in range(3)
    ]
    for each in (first, at_once):
        assert each.headers["x-de-vendor"] == "sandbox-openai"
        assert each.headers["x-de-model"] == "sandbox-small"
    assert first.headers["x-de-cache"] == "hit"
    assert "x-de-attempts" not in first.headers
    assert at_once.headers["x-de-attempts"] == "0"
    assert not {"x-de-vendor", "x-de-model", "x-de-cache"} & set(older.headers)


@BOTH
async def test_a_key_may_take_kept_answers_unless_a_request_says_otherwise(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus, path: str
) -> None:
    """Opted into for each key; a header is nearer, and 0 means a new answer."""
    made = await client.post(
        "/v1/keys", json={"tenant": "acme", "cache_ttl_s": 600}, headers=AS_ADMIN
    )
    assert made.json()["key"]["cache_ttl_s"] == 600
    caching = {"authorization": f"Bearer {made.json()['api_key']}"}
    bus.scripts += [HELLO] * 5
    for headers in (
        acme,
        caching,
        caching | {"x-de-cache-ttl": "5"},
        caching | {"x-de-cache-ttl": "0"},
        acme | {"x-de-cache-ttl": "0"},
    ):
        assert (await ask(client, path, headers)).status_code == 200
    assert [each.cache_ttl_s for each in bus.questions] == [None, 600, 5, None, None]
