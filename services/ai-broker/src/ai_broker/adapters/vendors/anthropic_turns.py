"""Turns as the messages API's blocks; the leading system turns stand apart."""

import base64
from collections.abc import Sequence
from typing import assert_never

import orjson

from ai_broker.adapters.vendors.refusal import Fit
from contracts.completions import (
    CacheLife,
    ChatTurn,
    DocumentPart,
    ImagePart,
    Part,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from contracts.message import Json, JsonObject


def split(turns: Sequence[ChatTurn], fit: Fit) -> tuple[list[Json], Sequence[ChatTurn]]:
    """Take the leading system turns out: they have a field of their own."""
    system: list[Json] = []
    for at, turn in enumerate(turns):
        if turn.role is not Role.SYSTEM:
            return system, turns[at:]
        system.extend(_blocks(turn, f"turns[{at}]", fit))
    raise fit.refusal("turns", "give at least one that is not the system's")


def messages_of(turns: Sequence[ChatTurn], first: int, fit: Fit) -> list[Json]:
    """Return messages whose roles alternate: neighbours of one role are joined."""
    messages: list[tuple[str, list[Json]]] = []
    for at, turn in enumerate(turns, first):
        role = "user" if turn.role is Role.TOOL else turn.role.value
        if turn.name is not None:
            fit.leave_out("turns.name", "say in the text who speaks")
        blocks = _blocks(turn, f"turns[{at}]", fit)
        if messages and messages[-1][0] == role:
            messages[-1][1].extend(blocks)
        elif blocks:
            messages.append((role, blocks))
    return [{"role": role, "content": blocks} for role, blocks in messages]


def _blocks(turn: ChatTurn, path: str, fit: Fit) -> list[Json]:
    """Return a turn's blocks; an empty text is none, and the API refuses it."""
    blocks: list[Json] = []
    for at, part in enumerate(turn.parts):
        if isinstance(part, TextPart) and not part.text:
            continue
        block = _block(part, f"{path}.parts[{at}]", fit)
        if block:
            blocks.append(block)
    return blocks


def _block(part: Part, where: str, fit: Fit) -> JsonObject:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text} | cache_mark(part.cache)
        case RefusalPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            return _image(part, where, fit) | cache_mark(part.cache)
        case DocumentPart():
            return _document(part) | cache_mark(part.cache)
        case ReasoningPart():
            return _reasoning(part, where, fit)
        case ToolCallPart():
            use: JsonObject = {"type": "tool_use", "id": part.call_id}
            return use | {"name": part.name, "input": _input(part.arguments)}
        case ToolResultPart():
            return _tool_result(part, where, fit) | cache_mark(part.cache)
        case _:
            assert_never(part)


def _reasoning(part: ReasoningPart, where: str, fit: Fit) -> JsonObject:
    if part.redacted is not None:
        return {"type": "redacted_thinking", "data": part.redacted}
    if part.signature is None:
        hint = "reasoning goes back only with the vendor's signature; leave it out"
        fit.leave_out(where, hint)
        return {}
    return {
        "type": "thinking",
        "thinking": part.text,
        "signature": part.signature,
    }


def _input(arguments: str) -> Json:
    """
    Return a call's arguments as an object.

    What the model wrote and is no JSON object goes back inside one, as Anthropic
    advises, so that the model can see its mistake.
    """
    try:
        parsed: Json = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"INVALID_JSON": arguments}


def _tool_result(part: ToolResultPart, where: str, fit: Fit) -> JsonObject:
    content: list[Json] = []
    for number, each in enumerate(part.content):
        if not (isinstance(each, TextPart) and not each.text):
            content.append(_block(each, f"{where}.content[{number}]", fit))
    result: JsonObject = {
        "type": "tool_result",
        "tool_use_id": part.call_id,
        "content": content,
    }
    if part.is_error:
        result["is_error"] = True
    return result


def _image(part: ImagePart, where: str, fit: Fit) -> JsonObject:
    if part.detail not in {None, "auto"}:
        fit.leave_out(f"{where}.detail", "leave it out")
    return {"type": "image", "source": _source(part, part.media_type or "image/png")}


def _document(part: DocumentPart) -> JsonObject:
    source: JsonObject
    if part.media_type.startswith("text/") and part.data is not None:
        text = part.data.decode("utf-8", "replace")
        source = {"type": "text", "media_type": "text/plain", "data": text}
    else:
        source = _source(part, part.media_type)
    document: JsonObject = {"type": "document", "source": source}
    if part.name is not None:
        document["title"] = part.name
    return document


def _source(part: ImagePart | DocumentPart, media_type: str) -> JsonObject:
    if part.url is not None:
        return {"type": "url", "url": part.url}
    data = base64.b64encode(part.data or b"").decode()
    return {"type": "base64", "media_type": media_type, "data": data}


def cache_mark(life: CacheLife | None) -> JsonObject:
    """Return the mark up to which the prompt is to be cached."""
    match life:
        case None:
            return {}
        case CacheLife.FIVE_MINUTES:
            return {"cache_control": {"type": "ephemeral"}}
        case CacheLife.ONE_HOUR:
            return {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
        case _:
            assert_never(life)
