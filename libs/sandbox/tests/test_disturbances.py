"""What is spoiled on the way shows byte for byte; what is only odd is still read."""

from typing import Final

import aiohttp
import openai
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from sandbox_line import Heard, Line

from sandbox.dress import split_badly

PROTOCOLS: Final = pytest.mark.parametrize("protocol", ["openai", "anthropic"])
GREETING: Final = 'say "Grüße aus Łódź — 你好 🎉, and a few words more to stream"'
ODD: Final = ["drip;delay_ms=0", "split", "crlf", "tight", "pings", "unknown_events"]


def ends_properly(heard: Heard) -> bool:
    """Say whether the protocol's own end came."""
    return b"[DONE]" in heard.body or b"message_stop" in heard.body


def has_content(heard: Heard) -> bool:
    """Say whether any text came."""
    return b"[sandbox]" in heard.body


@PROTOCOLS
@pytest.mark.parametrize("fault", ["cut", "end"])
async def test_a_stream_breaks_before_any_content(
    line: Line, protocol: str, fault: str
) -> None:
    """Lifecycle frames alone came, so nothing is lost by asking someone else."""
    heard = await line.call(protocol, f"{fault};at=start")
    assert (heard.status, len(heard.events)) == (200, 1)
    assert not has_content(heard)
    (row,) = await line.rows()
    assert (row["end_state"], row["output_tokens"]) == ("cut", 0)


@PROTOCOLS
async def test_a_stream_breaks_after_its_content(line: Line, protocol: str) -> None:
    """All was said and generated, and neither usage nor end came."""
    good = await line.call(protocol)
    heard = await line.call(protocol, "cut;at=end")
    assert heard.broken
    assert has_content(heard)
    assert not ends_properly(heard)
    whole, cut = await line.rows(2)
    assert cut["output_tokens"] == whole["output_tokens"]
    assert (cut["end_state"], cut["usage_reported"]) == ("cut", False)
    assert len(heard.events) < len(good.events)


@PROTOCOLS
async def test_not_even_one_event_need_come(line: Line, protocol: str) -> None:
    """After 0 events there are headers and then nothing."""
    heard = await line.call(protocol, "cut;after_events=0")
    assert (heard.status, heard.body, heard.broken) == (200, b"", True)


@PROTOCOLS
async def test_an_early_end_looks_clean_to_http(line: Line, protocol: str) -> None:
    """The body ends as it should, the protocol does not."""
    heard = await line.call(protocol, "end;after_events=4")
    assert (heard.broken, len(heard.events)) == (False, 4)
    assert not ends_properly(heard)
    (row,) = await line.rows()
    assert (row["end_state"], row["usage_reported"]) == ("cut", False)


@PROTOCOLS
@pytest.mark.parametrize("stream", [False, True])
async def test_a_reset_gives_no_answer(
    line: Line, protocol: str, *, stream: bool
) -> None:
    """The connection breaks before a status line; the prompt was read."""
    heard = await line.call(protocol, "reset", stream=stream)
    assert (heard.status, heard.broken) == (0, True)
    (row,) = await line.rows()
    assert (row["end_state"], row["status"], row["output_tokens"]) == ("cut", 0, 0)
    assert row["input_tokens"] > 0


@PROTOCOLS
async def test_a_whole_answer_is_cut_where_asked(line: Line, protocol: str) -> None:
    """Nothing, half of the body, or all but its last byte."""
    good = await line.call(protocol, stream=False)
    lengths: list[int] = []
    for place in ("at=start", "after_events=1", "at=end"):
        heard = await line.call(protocol, f"cut;{place}", stream=False)
        assert heard.broken
        lengths.append(len(heard.body))
    assert lengths == [0, len(good.body) // 2, len(good.body) - 1]


@PROTOCOLS
async def test_a_whole_answer_can_be_an_error_after_200(
    line: Line, protocol: str
) -> None:
    """As some lookalikes do: the status says yes, the body says no."""
    heard = await line.call(protocol, "stream_error", stream=False)
    assert heard.status == 200
    assert heard.json["error"]["message"] == "Overloaded"
    (row,) = await line.rows()
    assert (row["end_state"], row["usage_reported"]) == ("error", False)


@pytest.mark.parametrize("fault", ODD)
@pytest.mark.parametrize("stream", [False, True])
async def test_openai_s_sdk_reads_odd_forms(
    openai_client: AsyncOpenAI, line: Line, fault: str, *, stream: bool
) -> None:
    """The text and the usage are those of a good call."""
    good = await line.call("openai", text=GREETING, stream=False)
    headers = {"x-sandbox-fault": fault}
    if stream:
        chunks = await openai_client.chat.completions.create(
            model="sandbox-small",
            messages=[{"role": "user", "content": GREETING}],
            stream=True,
            stream_options={"include_usage": True},
            extra_headers=headers,
        )
        text, usage = "", None
        async for chunk in chunks:
            for choice in chunk.choices:
                text += choice.delta.content or ""
            usage = chunk.usage or usage
    else:
        done = await openai_client.chat.completions.create(
            model="sandbox-small",
            messages=[{"role": "user", "content": GREETING}],
            extra_headers=headers,
        )
        text, usage = done.choices[0].message.content, done.usage
    assert text == good.json["choices"][0]["message"]["content"]
    assert text is not None
    assert "你好 🎉" in text
    assert usage is not None
    assert usage.completion_tokens == good.json["usage"]["completion_tokens"]
    row = (await line.rows(2))[-1]
    assert (row["fault"], row["end_state"]) == (
        fault.split(";", maxsplit=1)[0],
        "completed",
    )


@pytest.mark.parametrize("fault", ODD)
async def test_anthropic_s_sdk_reads_odd_forms(
    anthropic_client: AsyncAnthropic, line: Line, fault: str
) -> None:
    """The text and the usage are those of a good call."""
    good = await line.call("anthropic", text=GREETING, stream=False)
    async with anthropic_client.messages.stream(
        model="sandbox-claude",
        max_tokens=4000,
        messages=[{"role": "user", "content": GREETING}],
        extra_headers={"x-sandbox-fault": fault},
    ) as stream:
        message = await stream.get_final_message()
    assert message.content[0].type == "text"
    assert message.content[0].text == good.json["content"][0]["text"]
    assert message.usage.output_tokens == good.json["usage"]["output_tokens"]


@PROTOCOLS
async def test_odd_forms_are_odd(line: Line, protocol: str) -> None:
    """On the wire stand the bytes that each form promises, all through the stream."""
    good = await line.call(protocol)
    heard = {fault: await line.call(protocol, fault) for fault in ODD}
    crlf, tight = heard["crlf"].body, heard["tight"].body
    assert crlf.count(b"\r\n") == crlf.count(b"\n") == good.body.count(b"\n")
    assert good.body.count(b"data: ") == tight.count(b"data:")
    assert b"data: " not in tight
    alive = b": keep-alive\n" if protocol == "openai" else b"event: ping\n"
    assert heard["pings"].body.count(alive) >= len(good.events)
    notes = heard["unknown_events"].events
    assert len(notes) == len(good.events) + 1
    assert sum("sandbox_note" in event for event in notes) == len(good.events)


@pytest.mark.parametrize("fault", ["drip;delay_ms=0", "split;delay_ms=0"])
async def test_writes_break_inside_characters(
    control: aiohttp.ClientSession, fault: str
) -> None:
    """A client that decodes what each read gives it fails; joined, it is the text."""
    messages = [{"role": "user", "content": GREETING}]
    body = {"model": "sandbox-small", "messages": messages, "stream": True}
    headers = {"authorization": "Bearer any", "x-sandbox-fault": fault}
    parts: list[bytes] = []
    async with control.post(
        "/v1/chat/completions", json=body, headers=headers
    ) as answer:
        part = b""
        async for data, ends in answer.content.iter_chunks():
            part += data
            if ends:
                parts.append(part)
                part = b""
    broken = [part for part in parts if "\ufffd" in part.decode(errors="replace")]
    assert len(broken) >= len("üßŁóź")
    assert any(part.endswith(b"\xe4") or part == b"\xe4" for part in parts)  # 你
    assert "Łódź" in b"".join(parts).decode()


def test_characters_are_split() -> None:
    """No part but the first begins with a whole character of several bytes."""
    data = 'data: {"text":"ä🎉b"}\n\n'.encode()
    parts = split_badly(data)
    assert b"".join(parts) == data
    assert parts == [
        'data: {"text":"ä'.encode()[:-1],
        b"\xa4\xf0",
        b'\x9f\x8e\x89b"}\n',
        b"\n",
    ]


@PROTOCOLS
@pytest.mark.parametrize("stream", [False, True])
async def test_an_endless_answer_ends_with_its_client(
    line: Line, control: aiohttp.ClientSession, protocol: str, *, stream: bool
) -> None:
    """It outgrows any limit, the client's too; hanging up ends it and its bill."""
    bounded = await line.call(protocol, "endless;after_events=300", stream=stream)
    assert bounded.broken
    assert not ends_properly(bounded)
    path = "/v1/messages" if protocol == "anthropic" else "/v1/chat/completions"
    model = "sandbox-claude" if protocol == "anthropic" else "sandbox-small"
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": model, "messages": messages, "max_tokens": 9, "stream": stream}
    headers = {"authorization": "Bearer a", "anthropic-version": "2023-06-01"}
    headers["x-sandbox-fault"] = "endless"
    async with control.post(path, json=body, headers=headers) as answer:
        got = 0
        async for part in answer.content.iter_any():
            got += len(part)
            if got > 20_000:
                break
    cut, left = await line.rows(2)
    assert (cut["end_state"], left["end_state"]) == ("cut", "client_disconnected")
    assert cut["output_tokens"] > 300
    assert left["output_tokens"] > 9
    assert left["reported"] is None


@PROTOCOLS
async def test_an_empty_answer_has_no_content(line: Line, protocol: str) -> None:
    """It ends properly, says nothing and costs no output."""
    streamed = await line.call(protocol, "empty")
    whole = await line.call(protocol, "empty", stream=False)
    assert ends_properly(streamed)
    if protocol == "openai":
        assert whole.json["choices"][0]["message"]["content"] == ""
        assert whole.json["choices"][0]["finish_reason"] == "stop"
    else:
        assert (whole.json["content"], whole.json["stop_reason"]) == ([], "end_turn")
    for row in await line.rows(2):
        assert (row["end_state"], row["output_tokens"]) == ("completed", 0)
        assert row["reported"]["output_tokens"] == 0


@PROTOCOLS
async def test_an_answer_can_be_refused_by_a_filter(line: Line, protocol: str) -> None:
    """The reason to stop is the vendor's word for it."""
    whole = await line.call(protocol, "refused", stream=False)
    if protocol == "openai":
        assert whole.json["choices"][0]["finish_reason"] == "content_filter"
    else:
        assert whole.json["stop_reason"] == "refusal"


@PROTOCOLS
async def test_a_stall_can_come_before_the_content(line: Line, protocol: str) -> None:
    """The first token never comes, though the stream has begun."""
    heard = await line.call(protocol, "stall;at=start;delay_ms=50")
    assert heard.broken
    assert len(heard.events) == 1
    assert not has_content(heard)
    (row,) = await line.rows()
    assert (row["end_state"], row["output_tokens"]) == ("stalled", 0)
    assert row["ended_at"] - row["started_at"] >= 0.05


async def test_a_stall_that_ends_is_a_cut(openai_client: AsyncOpenAI) -> None:
    """After its delay the vendor closes the connection."""
    with pytest.raises(openai.APIConnectionError):
        await openai_client.chat.completions.create(
            model="sandbox-small",
            messages=[{"role": "user", "content": "hi"}],
            extra_headers={"x-sandbox-fault": "stall;delay_ms=5"},
        )
