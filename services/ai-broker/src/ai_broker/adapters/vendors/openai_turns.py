"""
Turns as chat completions' messages.

Tool results are messages of their own. Reasoning goes back where a vendor wants it,
and only unsigned: what is signed belongs to the vendor that signed it.
"""

import base64
from collections.abc import Iterator
from typing import Final, assert_never

from ai_broker.adapters.vendors.refusal import Fit
from contracts.completions import (
    CacheLife,
    ChatTurn,
    DocumentPart,
    ImagePart,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from contracts.message import Json, JsonObject

Shown = TextPart | RefusalPart | ImagePart | DocumentPart

FAILED: Final = "The tool failed:"


def messages_of(turn: ChatTurn, path: str, fit: Fit) -> Iterator[JsonObject]:
    """Return a turn's messages: one per tool result, and one for the rest."""
    rest: list[Json] = []
    calls: list[Json] = []
    reasoning: list[str] = []
    for at, part in enumerate(turn.parts):
        where = f"{path}.parts[{at}]"
        match part:
            case ToolResultPart():
                yield _tool_result(part, where, fit)
            case ToolCallPart():
                calls.append(_call(part))
            case ReasoningPart():
                reasoning.extend(_unsigned(part, where, fit))
            case _:
                rest.append(_content_part(part, where, fit))
    if not (rest or calls or reasoning):
        return
    message: JsonObject = {"role": _role(turn.role, fit), "content": _content(rest)}
    if calls:
        message["tool_calls"] = calls
    if reasoning and fit.quirks.reasoning_field is not None:
        message[fit.quirks.reasoning_field] = "".join(reasoning)
    if turn.name is not None and fit.takes("turns.name"):
        message["name"] = turn.name
    yield message


def _role(role: Role, fit: Fit) -> str:
    match role:
        case Role.SYSTEM:
            return fit.quirks.system_role
        case Role.TOOL:
            return Role.USER.value
        case Role.USER | Role.ASSISTANT:
            return role.value
        case _:
            assert_never(role)


def _unsigned(part: ReasoningPart, where: str, fit: Fit) -> Iterator[str]:
    if part.signature is not None or part.redacted is not None:
        fit.leave_out(where, "signed reasoning goes back to the vendor that signed it")
    elif fit.quirks.reasoning_field is None:
        fit.leave_out(where, "it takes no reasoning back; leave it out")
    else:
        yield part.text


def _content_part(part: Shown, where: str, fit: Fit) -> JsonObject:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text} | _cache(part.cache, fit)
        case RefusalPart():
            return {"type": "refusal", "refusal": part.text}
        case ImagePart():
            return _image(part) | _cache(part.cache, fit)
        case DocumentPart():
            return _document(part, where, fit) | _cache(part.cache, fit)
        case _:
            assert_never(part)


def _content(parts: list[Json]) -> Json:
    """Return one text as a string, which every compatible vendor understands."""
    match parts:
        case []:
            return None
        case [{"type": "text", "text": text, **more}] if not more:
            return text
        case _:
            return parts


def _call(part: ToolCallPart) -> JsonObject:
    function: JsonObject = {"name": part.name, "arguments": part.arguments}
    return {"id": part.call_id, "type": "function", "function": function}


def _tool_result(part: ToolResultPart, where: str, fit: Fit) -> JsonObject:
    content: list[Json] = []
    if part.is_error:
        # The protocol has no mark for a failure, so the text says it first.
        content.append({"type": "text", "text": FAILED})
    for at, each in enumerate(part.content):
        if isinstance(each, ImagePart):
            hint = "tool results are text; send the image in a user turn"
            raise fit.refusal(f"{where}.content[{at}]", hint)
        written: JsonObject = {"type": "text", "text": each.text}
        content.append(written | _cache(each.cache, fit))
    last = content[-1] if content else None
    if isinstance(last, dict):
        last |= _cache(part.cache, fit)
    text = _content(content)
    empty = "" if text is None else text
    return {"role": "tool", "tool_call_id": part.call_id, "content": empty}


def _image(part: ImagePart) -> JsonObject:
    url = part.url or data_url(part.media_type or "image/png", part.data or b"")
    image: JsonObject = {"url": url}
    if part.detail is not None:
        image["detail"] = part.detail
    return {"type": "image_url", "image_url": image}


def _document(part: DocumentPart, where: str, fit: Fit) -> JsonObject:
    if part.data is None:
        raise fit.refusal(f"{where}.url", "send the document's data")
    file: JsonObject = {
        "filename": part.name or "document",
        "file_data": data_url(part.media_type, part.data),
    }
    return {"type": "file", "file": file}


def _cache(life: CacheLife | None, fit: Fit) -> JsonObject:
    """Return a cache mark where one is understood; others cache by themselves."""
    if life is None or not fit.takes("cache") or not fit.quirks.cache_marks:
        return {}
    mark: JsonObject = {"type": "ephemeral"}
    if life is CacheLife.ONE_HOUR:
        mark["ttl"] = "1h"
    return {"cache_control": mark}


def data_url(media_type: str, data: bytes) -> str:
    """Return bytes as a URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
