"""The official openai SDK, unchanged, against the running platform."""

import asyncio
from collections.abc import Sequence
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion
from sdk_clients import (
    ANTHROPIC_MODEL,
    EMBEDDING_MODEL,
    HEADER,
    LETTER,
    OPENAI_MODEL,
    READ,
    SUMS,
    VENDORS,
    Clients,
    Letter,
)

from testkit.platform import Platform
from testkit.platform_customer import Customer
from testkit.until import until

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "calculator",
            "description": "Calculate one expression",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"expression": {"type": "string"}},
                "required": ["expression"],
                "additionalProperties": False,
            },
        },
    }
]
ASK: Any = [{"role": "user", "content": HEADER}]
HELLO: Any = [{"role": "user", "content": 'say "hello world"'}]
COUNT: Any = [{"role": "user", "content": "count to 40"}]
NUMBERS = " ".join(map(str, range(1, 41)))


async def test_models_are_listed_and_found(clients: Clients) -> None:
    """With the SDK's own types, by any of the listed ids."""
    ids = [each.id for each in clients.openai.models.list()]
    assert {"smart", *VENDORS} <= set(ids)
    for each in ids:
        assert clients.openai.models.retrieve(each).id == each
    with pytest.raises(openai.NotFoundError):
        clients.openai.models.retrieve("no-such-model")


@pytest.mark.parametrize("model", VENDORS)
async def test_an_answer_and_its_headers(
    clients: Clients, platform: Platform, customer: Customer, model: str
) -> None:
    """Text, counts and tier, and one line on the ledger for what the vendor saw."""
    after = await platform.vendor.mark()
    raw = clients.chat.with_raw_response.create(model=model, messages=HELLO)
    answer = raw.parse()
    assert answer.choices[0].message.content == "[sandbox] hello world"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == (
        answer.usage.prompt_tokens + answer.usage.completion_tokens
    )
    assert answer.service_tier == "default"
    assert raw.headers["x-de-vendor"] == model.split("/", maxsplit=1)[0]
    assert raw.headers["x-request-id"] == answer._request_id  # noqa: SLF001 -- public by its docs
    (row,) = await platform.vendor.rows(after)

    async def find_line() -> bool:
        return row.client_request_id in {x.attempt_id for x in await customer.ledger()}

    await until(find_line, 20, "the ledger line")
    assert row.input_tokens == answer.usage.prompt_tokens
    assert row.output_tokens == answer.usage.completion_tokens


async def test_embeddings_in_both_forms(
    clients: Clients, platform: Platform, customer: Customer
) -> None:
    """Sync and async; near texts are near, and the ledger has the vendor's counts."""
    after = await platform.vendor.mark()
    texts = ["invoice number 4711", "invoice number 4712", "the sea at night"]
    found = clients.openai.embeddings.create(model=EMBEDDING_MODEL, input=texts)
    again = await clients.async_openai.embeddings.create(
        model=EMBEDDING_MODEL, input=texts, encoding_format="float"
    )
    one, near, far = (each.embedding for each in found.data)
    assert [each.embedding for each in again.data] == [one, near, far]
    assert _likeness(one, near) > _likeness(one, far)
    rows = await platform.vendor.rows(after)
    assert [each.input_tokens for each in rows] == [found.usage.prompt_tokens] * 2

    async def find_lines() -> bool:
        booked = {each.attempt_id for each in await customer.ledger()}
        return {each.client_request_id for each in rows} <= booked

    await until(find_lines, 20, "the ledger lines")
    with pytest.raises(openai.BadRequestError, match="embeddings"):
        clients.openai.embeddings.create(model=ANTHROPIC_MODEL, input="x")


def _likeness(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("model", VENDORS)
async def test_a_plain_stream(clients: Clients, model: str) -> None:
    """One id, pieces of text, a finish; counts only when they were asked for."""
    asked: dict[str, Any] = {"model": model, "messages": COUNT, "stream": True}
    chunks = list(clients.chat.create(**asked))
    assert len({each.id for each in chunks}) == 1
    text = "".join(each.choices[0].delta.content or "" for each in chunks)
    assert text == f"[sandbox] {NUMBERS}"
    assert len(chunks) > 4
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(each.usage is None for each in chunks)
    options = {"include_usage": True}
    counted = list(clients.chat.create(**asked, stream_options=options))
    assert counted[-1].choices == []
    assert counted[-1].usage is not None
    assert all(each.usage is None for each in counted[:-1])


@pytest.mark.parametrize("model", VENDORS)
async def test_the_streaming_helper(clients: Clients, model: str) -> None:
    """``chat.completions.stream`` gathers what a whole answer has."""
    with clients.chat.stream(model=model, messages=COUNT) as stream:
        deltas = [each.delta for each in stream if each.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content
    assert final.choices[0].finish_reason == "stop"
    async with clients.async_chat.stream(
        model=model, messages=ASK, response_format=Letter
    ) as parsed:
        end = await parsed.get_final_completion()
    assert end.choices[0].message.parsed == READ


@pytest.mark.parametrize("model", VENDORS)
async def test_parsed_outputs(clients: Clients, model: str) -> None:
    """``chat.completions.parse`` with a pydantic model, sync and async."""
    asked: dict[str, Any] = {"model": model, "messages": ASK}
    found = clients.chat.parse(**asked, response_format=Letter)
    assert found.choices[0].message.parsed == READ
    again = await clients.async_chat.parse(**asked, response_format=Letter)
    assert again.choices[0].message.parsed == READ


@pytest.mark.parametrize("model", VENDORS)
async def test_a_loop_of_tools(clients: Clients, model: str) -> None:
    """Calls at once, the SDK's own message sent back as it is, and the answer."""
    messages: list[Any] = [{"role": "user", "content": LETTER}]
    rounds: list[int] = []
    while True:
        answer = clients.chat.parse(model=model, messages=messages, tools=TOOLS)
        said = answer.choices[0].message
        messages.append(said)
        if not said.tool_calls:
            break
        assert answer.choices[0].finish_reason == "tool_calls"
        rounds.append(len(said.tool_calls))
        for call in said.tool_calls:
            arguments: Any = call.function.parsed_arguments
            result = SUMS[arguments["expression"]]
            messages.append(
                {"role": "tool", "tool_call_id": call.id, "content": result}
            )
    assert rounds == [2, 1]
    assert "68.20" in (said.content or "")


async def test_many_async_calls_at_once(clients: Clients) -> None:
    """Each gets its own answer."""

    async def ask(number: int) -> ChatCompletion:
        content = f'say "number {number}"'
        return await clients.async_chat.create(
            model="smart", messages=[{"role": "user", "content": content}]
        )

    answers = await asyncio.gather(*map(ask, range(20)))
    said = [each.choices[0].message.content for each in answers]
    assert said == [f"[sandbox] number {number}" for number in range(20)]
    assert len({each.id for each in answers}) == 20


async def test_the_same_key_is_paid_once(clients: Clients, platform: Platform) -> None:
    """An ``Idempotency-Key`` makes a repeat the stored answer, streamed or not."""
    after = await platform.vendor.mark()
    headers = {"Idempotency-Key": "letter-1"}
    asked: dict[str, Any] = {
        "model": OPENAI_MODEL,
        "messages": HELLO,
        "extra_headers": headers,
    }
    completions = clients.chat
    first, second = completions.create(**asked), completions.create(**asked)
    assert first == second
    with completions.stream(**asked) as stream:
        third = stream.get_final_completion()
    assert third.id == first.id
    assert third.choices[0].message.content == first.choices[0].message.content
    assert len(await platform.vendor.rows(after)) == 1
    other = asked | {"messages": COUNT}
    with pytest.raises(openai.UnprocessableEntityError, match="Idempotency-Key"):
        completions.create(**other)


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"model": "nope"}, openai.NotFoundError, None),
        ({"extra_body": {"zzz": 1}}, openai.BadRequestError, "zzz"),
        ({"n": 2}, openai.BadRequestError, "n"),
        ({"temperature": 9}, openai.BadRequestError, "temperature"),
        ({"messages": []}, openai.BadRequestError, "messages"),
    ],
)
async def test_refusals_are_the_sdks_own_errors(
    clients: Clients, fields: Any, error: type[openai.APIStatusError], param: str | None
) -> None:
    """With ``param`` where a field was wrong, and never tried again."""
    asked: dict[str, Any] = {"model": "smart", "messages": HELLO} | fields
    with pytest.raises(error) as caught:
        clients.chat.create(**asked)
    assert caught.value.param == param
    assert caught.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.AuthenticationError):
        clients.openai.with_options(api_key="de_no_key").models.list()


async def test_what_a_vendor_cannot_do_is_refused_or_left_out(clients: Clients) -> None:
    """By its name, unless the client allows it; the header then names it."""
    asked: dict[str, Any] = {"model": VENDORS[1], "messages": HELLO, "seed": 7}
    with pytest.raises(openai.BadRequestError, match="seed"):
        clients.chat.create(**asked)
    raw = clients.chat.with_raw_response.create(
        **asked, extra_headers={"x-de-drop-unsupported": "true"}
    )
    assert raw.headers["x-de-dropped"] == "sampling.seed"
    assert raw.parse().choices[0].message.content == "[sandbox] hello world"


async def test_an_equal_question_may_be_answered_from_the_cache(
    clients: Clients, platform: Platform
) -> None:
    """Only when asked for; the header says so, and the vendor is asked once."""
    after = await platform.vendor.mark()
    question = [{"role": "user", "content": 'say "kept for an hour"'}]
    asked: dict[str, Any] = {"model": OPENAI_MODEL, "messages": question}
    opted_in: dict[str, Any] = asked | {"extra_headers": {"x-de-cache-ttl": "3600"}}
    first, second, third = (
        clients.chat.with_raw_response.create(**each)
        for each in (opted_in, opted_in, asked)
    )
    assert "x-de-cache" not in first.headers
    assert second.headers["x-de-cache"] == "hit"
    assert "x-de-cache" not in third.headers
    streamed = clients.chat.with_raw_response.create(**opted_in, stream=True)
    assert streamed.headers["x-de-cache"] == "hit"
    assert streamed.headers["x-de-vendor"] == second.headers["x-de-vendor"]
    text = "".join(
        x.choices[0].delta.content or "" for x in streamed.parse() if x.choices
    )
    assert text == second.parse().choices[0].message.content
    texts = {x.parse().choices[0].message.content for x in (first, second, third)}
    assert texts == {"[sandbox] kept for an hour"}
    assert len(await platform.vendor.rows(after)) == 2


async def test_a_cut_vendor_is_an_error_and_never_an_end(
    clients: Clients, slow_vendor: Platform
) -> None:
    """After content the SDK raises; before, another attempt answers unseen."""
    cut = {"match": {"protocol": "openai"}, "fault": "cut", "count": 1}
    await slow_vendor.vendor.set_faults([cut | {"after_events": 6}])
    asked: dict[str, Any] = {"model": OPENAI_MODEL, "messages": COUNT, "stream": True}
    with pytest.raises(openai.APIError, match="broke off"):
        list(clients.chat.create(**asked))
    await slow_vendor.vendor.set_faults([cut | {"after_events": 1}])
    chunks = list(clients.chat.create(**asked))
    text = "".join(each.choices[0].delta.content or "" for each in chunks)
    assert text == f"[sandbox] {NUMBERS}"


async def test_a_client_that_leaves_hangs_up_on_the_vendor(
    clients: Clients, slow_vendor: Platform
) -> None:
    """The vendor sees its client go, and nobody pays for the rest."""
    vendor = slow_vendor.vendor
    after = await vendor.mark()
    await vendor.set_latency(0, token_ms=100)
    stream = await clients.async_chat.create(
        model=OPENAI_MODEL, messages=COUNT, stream=True
    )
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.close()
    (row,) = await until(lambda: vendor.rows(after), 10, "the vendor to notice")
    assert row.end_state == "client_disconnected"


async def test_the_sdks_timeout_is_the_answers_deadline(
    clients: Clients, slow_vendor: Platform
) -> None:
    """It is told 504 just before it would give up by itself."""
    await slow_vendor.vendor.set_latency(20_000)
    patient = clients.openai.with_options(timeout=2.0, max_retries=0)
    with pytest.raises(openai.InternalServerError) as caught:
        patient.chat.completions.create(model=OPENAI_MODEL, messages=HELLO)
    assert caught.value.status_code == 504
