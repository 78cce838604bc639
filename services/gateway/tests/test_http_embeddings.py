"""``/v1/embeddings`` as OpenAI's API and its own SDK speak it."""

import asyncio
import base64
import json
import struct
from typing import Any

import httpx
import pytest
from door_world import CUT, failed
from gateway_world import OPENED, Headers, ScriptedBus, finished, tenant_headers
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI, OpenAI
from question_world import ASKER

from contracts.frames import VectorsDelta
from contracts.problems import Code
from determinism import SystemClock
from gateway.app import Composed
from gateway.domain.embeddings import embedding_list, read_embeddings
from gateway.domain.fields import Unfit
from telemetry.face import HttpServer

PATH = "/v1/embeddings"
BODY: dict[str, Any] = {"model": "m", "input": ["red", "blue"]}
ONE, TWO = struct.pack("<2f", 0.5, -1), struct.pack("<2f", 2, 0.25)
END = finished(usage={"input_tokens": 5}, model="embedding-1")
VECTORS = (
    OPENED,
    VectorsDelta(first=0, vectors=(ONE,)),
    VectorsDelta(first=1, vectors=(TWO,)),
    END,
)


async def test_texts_become_a_list_of_vectors(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus
) -> None:
    """In their order, with the vendor's usage, and asked in the caller's name."""
    bus.scripts.append(VECTORS)
    fields = {"dimensions": 2, "user": "ann"}
    answer = await client.post(PATH, json=BODY | fields, headers=acme)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -1.0]},
            {"object": "embedding", "index": 1, "embedding": [2.0, 0.25]},
        ],
        "model": "embedding-1",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
    (asked,) = bus.embeddings
    assert (asked.tenant, asked.inputs) == ("acme", ("red", "blue"))
    assert (asked.dimensions, asked.user) == (2, "ann")
    assert asked.api_key_id is not None
    assert answer.headers["x-de-completion-id"] == asked.completion_id


async def test_a_cut_or_incomplete_answer_is_asked_again(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus
) -> None:
    """Under the same id; no list with a vector too few ever goes out."""
    bus.scripts += [
        (OPENED, VectorsDelta(first=0, vectors=(ONE,)), CUT),
        (OPENED, VectorsDelta(first=1, vectors=(TWO,)), END),
        VECTORS,
    ]
    answer = await client.post(PATH, json=BODY, headers=acme)
    assert [each["embedding"] for each in answer.json()["data"]] == [
        [0.5, -1.0],
        [2.0, 0.25],
    ]
    assert len({each.completion_id for each in bus.embeddings}) == 1
    assert len(bus.embeddings) == 3


async def test_failures_come_in_the_vendor_s_envelope(
    client: httpx.AsyncClient, acme: Headers, bus: ScriptedBus
) -> None:
    """So that the SDK raises what its user expects."""
    bus.scripts.append((OPENED, failed(Code.BUDGET_EXHAUSTED)))
    for headers, status in ((acme, 402), ({}, 401)):
        answer = await client.post(PATH, json=BODY, headers=headers)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"input": None}, "input", "required"),
        ({"input": []}, "input", "empty"),
        ({"input": ""}, "input", "empty"),
        ({"input": ["a", ""]}, "input", "empty"),
        ({"input": [1, 2]}, "input", "tokens are not taken"),
        ({"input": [[1], [2]]}, "input", "tokens are not taken"),
        ({"input": ["a"] * 2049}, "input", "at most 2048"),
        ({"input": {"a": 1}}, "input", "must be a list"),
        ({"model": None}, "model", "required"),
        ({"dimensions": 0}, "dimensions", "1"),
        ({"encoding_format": "hex"}, "encoding_format", "float, base64"),
        ({"stream": True}, "stream", "unknown"),
    ],
)
def test_what_cannot_be_done_is_named(
    changes: dict[str, Any], field: str, says: str
) -> None:
    """The field, and what would be right; nothing is dropped in silence."""
    with pytest.raises(Unfit, match=says) as caught:
        read_embeddings(BODY | changes, ASKER)
    assert caught.value.field == field


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_and_base64_tell_the_same_vector(numbers: list[float]) -> None:
    """Whichever form was asked for, and to the last bit."""
    packed = struct.pack(f"<{len(numbers)}f", *numbers)
    completion = END.completion.model_copy(update={"vectors": (packed,)})
    told: dict[str, Any] = {}
    for form in ("float", "base64"):
        asked = read_embeddings(BODY | {"input": "a", "encoding_format": form}, ASKER)
        answer: Any = json.loads(json.dumps(embedding_list(completion, asked)))
        told[form] = answer["data"][0]["embedding"]
    assert base64.b64decode(told["base64"]) == packed
    assert struct.pack(f"<{len(numbers)}f", *told["float"]) == packed


async def test_the_openai_sdk_needs_no_change(
    gateway: Composed, client: httpx.AsyncClient, bus: ScriptedBus
) -> None:
    """Sync and async, in the SDK's own default form and as numbers."""
    key = (await tenant_headers(client, "acme"))["authorization"].split()[1]
    bus.scripts += [VECTORS] * 3
    async with HttpServer(gateway.app, "127.0.0.1", 0, connections_max=9) as server:
        url = f"http://127.0.0.1:{server.port}/v1"
        texts = ["red", "blue"]

        def ask_sync() -> list[list[float]]:
            with OpenAI(api_key=key, base_url=url, max_retries=0) as sdk:
                found = sdk.embeddings.create(model="m", input=texts)
            return [each.embedding for each in found.data]

        expected = [[0.5, -1.0], [2.0, 0.25]]
        assert await asyncio.to_thread(ask_sync) == expected
        async with AsyncOpenAI(api_key=key, base_url=url, max_retries=0) as sdk:
            found = await sdk.embeddings.create(model="m", input=texts)
            assert [each.embedding for each in found.data] == expected
            found = await sdk.embeddings.create(
                model="m", input=texts, encoding_format="float"
            )
            assert [each.embedding for each in found.data] == expected
            assert found.usage.prompt_tokens == 5
    clock = SystemClock()
    assert all(each.deadline > clock.now() for each in bus.embeddings)
