"""Read Anthropic's content blocks: text, thinking, tools, images and documents."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sandbox.attachments import (
    IMAGE_TYPES,
    PDF,
    Content,
    count_pages,
    decode,
    require_address,
)
from sandbox.conversation import Role, ToolCall, Turn
from sandbox.payload import (
    Json,
    JsonObject,
    RequestRefused,
    bad_request,
    list_of,
    object_of,
    text_of,
)
from sandbox.thinking import unseal

IMAGE_BYTES_MAX: Final = 5 * (1 << 20)
PDF_BYTES_MAX: Final = 32 * (1 << 20)
MARKS_MAX: Final = 4
TTLS: Final = ("5m", "1h")
THOUGHTS: Final = ("thinking", "redacted_thinking")


@dataclass(frozen=True)
class Message:
    """One message with its blocks and its place."""

    role: str
    content: Json
    blocks: list[JsonObject]
    path: str


def read_turns(body: JsonObject) -> Iterator[Turn]:
    """Read the system prompt and the messages; one turn per tool result."""
    system = body.get("system")
    if system is not None:
        text = read_content(system, "system").text
        yield Turn(Role.SYSTEM, text, cache_ttl=last_mark(system))
    messages = [_message(each, at) for at, each in enumerate(body_messages(body))]
    said = [at for at, message in enumerate(messages) if _is_said(message)]
    for at, message in enumerate(messages):
        if message.role == "assistant":
            # Thoughts of turns that are over are checked and then left out.
            yield _assistant(message, is_open=at > max(said, default=-1))
        else:
            yield from _user(message)


def body_messages(body: JsonObject) -> list[Json]:
    """Return the messages as they stand."""
    return list_of(body.get("messages"))


def read_content(content: Json, path: str) -> Content:
    """
    Read a content that a user, a tool or the system gives.

    Raises:
        RequestRefused: A block is unknown, malformed or too large.
    """
    found = Content()
    if not isinstance(content, list):
        found.texts.append(text_of(content))
        return found
    for at, each in enumerate(content):
        block, place = object_of(each), f"{path}.content.{at}"
        match block.get("type"):
            case "text":
                found.texts.append(text_of(block.get("text")))
            case "image":
                _read_image(object_of(block.get("source")), place)
                found.images += 1
            case "document":
                _read_document(block, f"{place}.document.source", found)
            case other:
                message = f"{path}.content: Input tag '{other}' is not supported here"
                raise bad_request(message, path)
    return found


def read_marks(body: JsonObject) -> list[str]:
    """
    Return the lifetimes of all cache marks in the vendor's order.

    Raises:
        RequestRefused: There are too many, or a longer one follows a shorter.
    """
    marks = [*_marks(body.get("tools")), *_marks(body.get("system"))]
    for each in body_messages(body):
        marks += _marks(object_of(each).get("content"))
    if "cache_control" in body:
        marks.append(_mark(body) or TTLS[0])
    if len(marks) > MARKS_MAX:
        message = (
            f"A maximum of {MARKS_MAX} blocks with cache_control may be provided. "
            f"Found {len(marks)}."
        )
        raise bad_request(message, "cache_control")
    if marks != sorted(marks, key=TTLS[::-1].index):
        message = (
            "a ttl='1h' cache_control block must not come after a ttl='5m' "
            "cache_control block. Note that blocks are processed in the following "
            "order: `tools`, `system`, `messages`."
        )
        raise bad_request(message, "cache_control")
    return marks


def last_mark(content: Json) -> str:
    """Return the lifetime of the last cache mark in a content, empty for none."""
    return next(reversed(list(_marks(content))), "")


def _marks(content: Json) -> Iterator[str]:
    for block in list_of(content):
        if mark := _mark(object_of(block)):
            yield mark


def _mark(block: JsonObject) -> str:
    control = block.get("cache_control")
    if control is None:
        return ""
    ttl = text_of(object_of(control).get("ttl"), TTLS[0])
    if object_of(control).get("type") != "ephemeral" or ttl not in TTLS:
        message = "cache_control: expected type ephemeral and a ttl of 5m or 1h"
        raise bad_request(message, "cache_control")
    return ttl


def _message(value: Json, at: int) -> Message:
    message = object_of(value)
    role, content = text_of(message.get("role")), message.get("content")
    if role not in ("user", "assistant") or (at == 0 and role != "user"):
        text = f"messages.{at}.role: expected user or assistant, the first a user"
        raise bad_request(text, "messages")
    blocks = [object_of(block) for block in list_of(content)]
    if not blocks and not text_of(content):
        text = f"messages.{at}: all messages must have non-empty content"
        raise bad_request(text, "messages")
    return Message(role, content, blocks, f"messages.{at}")


def _is_said(message: Message) -> bool:
    """Say whether a user speaks, who does more than give tool results."""
    kinds = [block.get("type") for block in message.blocks]
    return message.role == "user" and "tool_result" not in kinds


def _assistant(message: Message, *, is_open: bool) -> Turn:
    calls: list[ToolCall] = []
    thoughts: list[str] = []
    said: list[Json] = []
    for at, block in enumerate(message.blocks):
        kind = block.get("type")
        if kind == "tool_use":
            name, call_id = text_of(block.get("name")), text_of(block.get("id"))
            calls.append(ToolCall(name, object_of(block.get("input")), call_id))
        elif kind in THOUGHTS:
            thoughts.append(_thought(block, f"{message.path}.content.{at}"))
        elif kind == "text":
            said.append(block)
    text = read_content(said if message.blocks else message.content, message.path).text
    thinking = "\n".join(thoughts) if is_open else ""
    mark = last_mark(message.content)
    return Turn(Role.ASSISTANT, text, tuple(calls), thinking=thinking, cache_ttl=mark)


def _thought(block: JsonObject, path: str) -> str:
    """Open a thought's seal: it must have come from here, unchanged."""
    kind = text_of(block.get("type"))
    name = "signature" if kind == "thinking" else "data"
    token = block.get(name)
    if not isinstance(token, str):
        message = f"{path}.{kind}.{name}: Field required"
        raise bad_request(message, "messages")
    text, shown = unseal(token), text_of(block.get("thinking"))
    if text is None or (shown and shown != text):
        message = f"{path}: Invalid `{name}` in `{kind}` block"
        raise bad_request(message, "messages")
    return text


def _user(message: Message) -> Iterator[Turn]:
    """Tool results come first, then what the user says."""
    rest: list[Json] = []
    path, mark = message.path, last_mark(message.content)
    for at, block in enumerate(message.blocks):
        if block.get("type") != "tool_result":
            rest.append(block)
            continue
        if rest:
            text = f"{path}: tool_result blocks must come before other content"
            raise bad_request(text, "messages")
        given = read_content(block.get("content"), f"{path}.content.{at}")
        call_id, failed = text_of(block.get("tool_use_id")), block.get("is_error")
        yield Turn(
            Role.TOOL,
            given.text,
            call_id=call_id,
            failed=failed is True,
            images=given.images,
            pages=given.pages,
            cache_ttl=_mark(block),
        )
    if rest or not message.blocks:
        given = read_content(rest if message.blocks else message.content, path)
        yield Turn(
            Role.USER,
            given.text,
            images=given.images,
            pages=given.pages,
            cache_ttl=mark,
        )


def _read_image(source: JsonObject, path: str) -> None:
    match source.get("type"):
        case "base64":
            place = f"{path}.image.source.base64"
            if source.get("media_type") not in IMAGE_TYPES:
                expected = ", ".join(IMAGE_TYPES)
                message = f"{place}.media_type: Input should be one of {expected}"
                raise bad_request(message, path)
            decode(text_of(source.get("data")), place, IMAGE_BYTES_MAX)
        case "url":
            require_address(text_of(source.get("url")), f"{path}.image.source.url")
        case _:
            raise _no_such_source(f"{path}.image.source", source)


def _read_document(block: JsonObject, path: str, found: Content) -> None:
    source = object_of(block.get("source"))
    found.texts += [
        text for name in ("title", "context") if (text := text_of(block.get(name)))
    ]
    match source.get("type"):
        case "base64":
            if source.get("media_type") != PDF:
                message = f"{path}.base64.media_type: Input should be '{PDF}'"
                raise bad_request(message, path)
            data = decode(text_of(source.get("data")), path, PDF_BYTES_MAX)
            found.pages += count_pages(data, path)
        case "text":
            if source.get("media_type") != "text/plain":
                message = f"{path}.text.media_type: Input should be 'text/plain'"
                raise bad_request(message, path)
            found.texts.append(text_of(source.get("data")))
        case "content":
            inner = read_content(source.get("content"), path)
            found.texts += inner.texts
            found.images += inner.images
        case "url":
            require_address(text_of(source.get("url")), f"{path}.url")
            found.pages += 1
        case _:
            raise _no_such_source(path, source)


def _no_such_source(path: str, source: JsonObject) -> RequestRefused:
    message = (
        f"{path}.type: '{source.get('type')}' is not supported; the sandbox keeps no "
        "files, give base64, a url or text"
    )
    return bad_request(message, path)
