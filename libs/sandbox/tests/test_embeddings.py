"""Embeddings come from the text: the same for the same, near for the similar."""

import math
from typing import Any, Final

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI
from sandbox_line import Heard, Line

from sandbox.embeddings import embed

MODEL: Final = "sandbox-embedding-small"
TEXTS: Final = ["The invoice is overdue.", "Overdue invoices", "A cat sat on a mat."]


def nearness(one: list[float], other: list[float]) -> float:
    """Return the cosine of the angle between two vectors of length 1."""
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


async def post(line: Line, fault: str = "", request_id: str = "", **body: Any) -> Heard:
    """Ask for embeddings without an SDK."""
    headers = {"authorization": "Bearer any", "x-client-request-id": request_id}
    if fault:
        headers["x-sandbox-fault"] = fault
    known: dict[str, Any] = {"model": MODEL, "input": "hello"}
    return await line.post("/v1/embeddings", known | body, headers)


async def test_the_sdk_gets_a_vector_for_each_text(
    openai_client: AsyncOpenAI, line: Line
) -> None:
    """In order, as floats or base64 alike, with usage that the ledger has too."""
    floats = await openai_client.embeddings.create(
        model=MODEL, input=TEXTS, encoding_format="float"
    )
    packed = await openai_client.embeddings.create(model=MODEL, input=TEXTS)
    assert [each.index for each in floats.data] == [0, 1, 2]
    for one, other in zip(floats.data, packed.data, strict=True):
        assert len(one.embedding) == 256
        assert other.embedding == pytest.approx(one.embedding, abs=1e-6)
    assert floats.usage.prompt_tokens == floats.usage.total_tokens == 15
    for row in await line.rows(2):
        assert (row["kind"], row["model"]) == ("embedding", MODEL)
        assert (row["input_tokens"], row["output_tokens"]) == (15, 0)
        assert row["reported"]["input_tokens"] == 15
        assert (row["end_state"], row["usage_reported"]) == ("completed", True)


async def test_similar_texts_are_near(openai_client: AsyncOpenAI) -> None:
    """Two sentences on invoices are nearer than one on a cat."""
    done = await openai_client.embeddings.create(model=MODEL, input=TEXTS)
    invoice, invoices, cat = (each.embedding for each in done.data)
    assert nearness(invoice, invoices) > 0.4
    assert abs(nearness(invoice, cat)) < 0.25


def test_strange_words_are_perpendicular_on_average() -> None:
    """Sharing places by chance, they are as often against each other as with."""
    vectors = [embed(f"{number:x}" * 7, 64) for number in range(1000, 1060)]
    pairs = [
        nearness(one, other)
        for at, one in enumerate(vectors)
        for other in vectors[at + 1 :]
    ]
    assert abs(math.fsum(pairs) / len(pairs)) < 0.03


@pytest.mark.parametrize(("dimensions", "length"), [(None, 1024), (8, 8), (1024, 1024)])
async def test_the_length_of_the_vector_can_be_chosen(
    line: Line, dimensions: int | None, length: int
) -> None:
    """It is normalised at each length."""
    body: dict[str, Any] = {"model": "sandbox-embedding-large"}
    if dimensions is not None:
        body["dimensions"] = dimensions
    heard = await post(line, **body)
    vector = heard.json["data"][0]["embedding"]
    assert len(vector) == length
    assert nearness(vector, vector) == pytest.approx(1)


async def test_tokens_are_taken_as_they_are_counted(line: Line) -> None:
    """A list of tokens, or of such lists, costs what it is long."""
    one = await post(line, input=[1, 2, 3])
    many = await post(line, input=[[1, 2, 3], [4]])
    assert one.json["usage"]["prompt_tokens"] == 3
    assert many.json["usage"]["prompt_tokens"] == 4
    assert many.json["data"][0]["embedding"] == one.json["data"][0]["embedding"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": [[1, "a"]]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a" * 4 * 8193}, "input"),
        ({"dimensions": 257}, "dimensions"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"colour": 1}, "colour"),
        ({"model": ""}, "model"),
    ],
)
async def test_malformed_requests_are_refused(
    line: Line, body: dict[str, Any], param: str
) -> None:
    """Each defect is a 400 that names the field, and costs nothing."""
    heard = await post(line, **body)
    assert (heard.status, heard.json["error"]["param"]) == (400, param)
    (row,) = await line.rows()
    assert (row["end_state"], row["input_tokens"]) == ("error", 0)


async def test_chat_models_do_not_embed(openai_client: AsyncOpenAI) -> None:
    """They are not found here, and the embedding models are listed."""
    with pytest.raises(openai.NotFoundError):
        await openai_client.embeddings.create(model="sandbox-small", input="x")
    names = [model.id async for model in openai_client.models.list()]
    assert MODEL in names
    assert (await openai_client.models.retrieve(MODEL)).id == MODEL


@pytest.mark.parametrize(
    ("fault", "status", "end_state"),
    [
        ("rate_limited_429", 429, "error"),
        ("error_500", 500, "error"),
        ("cut", 200, "cut"),
        ("reset", 0, "cut"),
        ("timeout;delay_ms=1", 0, "stalled"),
        ("bad_json", 200, "completed"),
    ],
)
async def test_faults_hit_embeddings_too(
    line: Line, fault: str, status: int, end_state: str
) -> None:
    """By header, and by rules that match the text."""
    heard = await post(line, fault)
    assert heard.status == status
    (row,) = await line.rows()
    assert (row["end_state"], row["usage_reported"]) == (end_state, False)
    name = fault.split(";", maxsplit=1)[0]
    await line.faults({"fault": name, "match": {"contains": "4711"}, "delay_ms": 1})
    assert (await post(line)).status == 200
    await post(line, input="invoice 4711")
    assert [row["fault"] for row in await line.rows(3)] == [name, "", name]


@pytest.mark.parametrize(
    ("fault", "told"), [("usage_missing", None), ("usage_zero", 0)]
)
async def test_usage_of_embeddings_can_lie(
    line: Line, fault: str, told: int | None
) -> None:
    """The ledger keeps the truth."""
    heard = await post(line, fault)
    usage = heard.json.get("usage")
    assert (usage and usage["prompt_tokens"]) == told
    (row,) = await line.rows()
    assert row["input_tokens"] == 2
    assert row["usage_reported"] is (told is not None)


@given(text=st.text(min_size=1), dimensions=st.integers(1, 300))
def test_each_text_has_one_vector_of_length_one(text: str, dimensions: int) -> None:
    """Any text, any length: the same again, and normalised."""
    vector = embed(text, dimensions)
    assert len(vector) == dimensions
    assert vector == embed(text, dimensions)
    assert nearness(vector, vector) == pytest.approx(1)
