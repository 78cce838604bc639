"""The official anthropic SDK, unchanged, against the running platform."""

import asyncio
from typing import Any

import anthropic
import pytest
from anthropic import beta_async_tool, beta_tool
from anthropic.types import Message, TextBlock
from sdk_clients import (
    ANTHROPIC_MODEL,
    HEADER,
    LETTER,
    READ,
    SUMS,
    VENDORS,
    Clients,
    Letter,
)

from testkit.platform import Platform
from testkit.until import until

ASK: Any = [{"role": "user", "content": HEADER}]
HELLO: Any = [{"role": "user", "content": 'say "hello world"'}]
COUNT: Any = [{"role": "user", "content": "count to 40"}]
NUMBERS = " ".join(map(str, range(1, 41)))


@beta_tool
def calculator(expression: str) -> str:
    """
    Calculate one expression.

    Args:
        expression: Numbers and operators.
    """
    return SUMS[expression]


@beta_async_tool
async def async_calculator(expression: str) -> str:
    """
    Calculate one expression.

    Args:
        expression: Numbers and operators.
    """
    return SUMS[expression]


async_calculator.name = "calculator"


def text_of(content: Any) -> str:
    """Return a message's text."""
    return "".join(each.text for each in content if each.type == "text")


async def test_models_are_listed_by_pages(clients: Clients) -> None:
    """The SDK pages on by itself; each is found by its id."""
    ids = [each.id for each in clients.anthropic.models.list(limit=2)]
    assert {"smart", *VENDORS} <= set(ids)
    for each in ids:
        assert clients.anthropic.models.retrieve(each).id == each
    with pytest.raises(anthropic.NotFoundError):
        clients.anthropic.models.retrieve("no-such-model")


@pytest.mark.parametrize("model", VENDORS)
async def test_an_answer_and_its_headers(clients: Clients, model: str) -> None:
    """Text, counts and tier, and the request id where the SDK looks for it."""
    raw = clients.messages.with_raw_response.create(
        model=model, max_tokens=100, messages=HELLO
    )
    message = raw.parse()
    assert message.content == [TextBlock(type="text", text="[sandbox] hello world")]
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0
    assert message.usage.service_tier == "standard"
    assert raw.headers["request-id"] == message._request_id  # noqa: SLF001 -- public by its docs
    assert raw.headers["x-de-vendor"] == model.split("/", maxsplit=1)[0]


@pytest.mark.parametrize("model", VENDORS)
async def test_streams(clients: Clients, model: str) -> None:
    """``messages.stream`` and raw events give the same text; counts come whole."""
    asked: dict[str, Any] = {"model": model, "max_tokens": 500, "messages": COUNT}
    with clients.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == text_of(final.content) == f"[sandbox] {NUMBERS}"
    assert final.usage.input_tokens > 0
    events = list(clients.messages.create(**asked, stream=True))
    assert [events[0].type, events[-1].type] == ["message_start", "message_stop"]
    async with clients.async_messages.stream(**asked) as again:
        assert text_of((await again.get_final_message()).content) == text


@pytest.mark.parametrize("model", VENDORS)
async def test_parsed_outputs(clients: Clients, model: str) -> None:
    """``messages.parse`` with a pydantic model, sync and async."""
    asked: dict[str, Any] = {"model": model, "max_tokens": 500, "messages": ASK}
    found = clients.messages.parse(**asked, output_format=Letter)
    assert found.parsed_output == READ
    again = await clients.async_messages.parse(**asked, output_format=Letter)
    assert again.parsed_output == READ
    beta = clients.anthropic.beta.messages.parse(**asked, output_format=Letter)
    assert beta.parsed_output == READ


@pytest.mark.parametrize("model", VENDORS)
async def test_the_tool_runner(clients: Clients, model: str) -> None:
    """
    It runs the tools to the end: whole, in streams, and async.

    Its first request asks the API to hold the conversation; told that we do not, it
    goes on without.
    """
    asked: dict[str, Any] = {
        "model": model,
        "max_tokens": 500,
        "messages": [{"role": "user", "content": LETTER}],
    }
    runners: Any = clients.anthropic.beta.messages
    whole = runners.tool_runner(**asked, tools=[calculator]).until_done()
    assert "68.20" in text_of(whole.content)
    streamed: list[Any] = [
        stream.get_final_message()
        for stream in runners.tool_runner(**asked, tools=[calculator], stream=True)
    ]
    assert [each.stop_reason for each in streamed] == [
        "tool_use",
        "tool_use",
        "end_turn",
    ]
    assert len(streamed[0].content) == 2
    async_runners: Any = clients.async_anthropic.beta.messages
    runner = async_runners.tool_runner(**asked, tools=[async_calculator])
    assert "68.20" in text_of((await runner.until_done()).content)


async def test_many_async_calls_at_once(clients: Clients) -> None:
    """Each gets its own answer."""

    async def ask(number: int) -> Message:
        return await clients.async_messages.create(
            model="smart",
            max_tokens=100,
            messages=[{"role": "user", "content": f'say "number {number}"'}],
        )

    answers = await asyncio.gather(*map(ask, range(20)))
    said = [text_of(each.content) for each in answers]
    assert said == [f"[sandbox] number {number}" for number in range(20)]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"model": "nope"}, anthropic.NotFoundError),
        ({"extra_body": {"zzz": 1}}, anthropic.BadRequestError),
        ({"max_tokens": 0}, anthropic.BadRequestError),
        ({"messages": []}, anthropic.BadRequestError),
    ],
)
async def test_refusals_are_the_sdks_own_errors(
    clients: Clients, fields: Any, error: type[anthropic.APIStatusError]
) -> None:
    """In Anthropic's envelope, and never tried again."""
    asked: dict[str, Any] = {"model": "smart", "max_tokens": 9, "messages": HELLO}
    with pytest.raises(error) as caught:
        clients.messages.create(**asked | fields)
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert caught.value.request_id
    stranger = clients.anthropic.with_options(api_key="de_no_key")
    with pytest.raises(anthropic.AuthenticationError):
        stranger.messages.create(**asked)


async def test_a_cut_vendor_is_an_error_and_never_an_end(
    clients: Clients, slow_vendor: Platform
) -> None:
    """After content the SDK raises; before, another attempt answers unseen."""
    cut = {"match": {"protocol": "anthropic"}, "fault": "cut", "count": 1}
    await slow_vendor.vendor.set_faults([cut | {"after_events": 6}])
    asked: dict[str, Any] = {
        "model": ANTHROPIC_MODEL,
        "max_tokens": 500,
        "messages": COUNT,
    }
    with (
        pytest.raises(anthropic.APIError, match="broke off"),
        clients.messages.stream(**asked) as stream,
    ):
        stream.get_final_message()
    await slow_vendor.vendor.set_faults([cut | {"after_events": 1}])
    with clients.messages.stream(**asked) as stream:
        assert text_of(stream.get_final_message().content) == f"[sandbox] {NUMBERS}"


async def test_a_client_that_leaves_hangs_up_on_the_vendor(
    clients: Clients, slow_vendor: Platform
) -> None:
    """The vendor sees its client go, and nobody pays for the rest."""
    vendor = slow_vendor.vendor
    after = await vendor.mark()
    await vendor.set_latency(0, token_ms=100)
    async with clients.async_messages.stream(
        model=ANTHROPIC_MODEL, max_tokens=500, messages=COUNT
    ) as stream:
        async for text in stream.text_stream:
            if text:
                break
    (row,) = await until(lambda: vendor.rows(after), 10, "the vendor to notice")
    assert row.end_state == "client_disconnected"
