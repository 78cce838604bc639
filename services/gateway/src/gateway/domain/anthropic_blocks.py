"""The messages API's content blocks as parts."""

from collections.abc import Iterator
from typing import Final

import orjson

from contracts.completions import (
    CacheLife,
    DocumentPart,
    ImagePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from gateway.domain.fields import Fields, within
from gateway.domain.inline_data import WEB, read_base64
from gateway.domain.question import PARTS_MAX
from gateway.domain.tool_name import read_name

LIVES: Final = {"5m": CacheLife.FIVE_MINUTES, "1h": CacheLife.ONE_HOUR}


def read_content(holder: Fields, name: str) -> Iterator[Part]:
    """
    Yield what a field says: one string, or a list of blocks.

    Raises:
        Unfit: A block is not as it must be, or has what we cannot carry.
    """
    content = holder.text_or_sections(name, PARTS_MAX)
    if isinstance(content, str):
        yield TextPart(text=content)
    else:
        for block in content or ():
            yield within(block, _block)


def read_cache(fields: Fields) -> CacheLife | None:
    """Return how long the prompt up to here shall be cached."""
    section = fields.section("cache_control")
    return None if section is None else within(section, _life)


def _life(mark: Fields) -> CacheLife:
    mark.need("type", mark.choice("type", "ephemeral"))
    return LIVES[mark.choice("ttl", *LIVES) or "5m"]


def _block(block: Fields) -> Part:
    kind = block.need_text("type")
    match kind:
        case "text":
            return _text(block)
        case "image":
            return _image(block)
        case "document":
            return _document(block)
        case "tool_use":
            return _tool_use(block)
        case "tool_result":
            return _tool_result(block)
        case "thinking":
            return ReasoningPart(
                text=block.need_text("thinking"),
                signature=block.text("signature") or None,
            )
        case "redacted_thinking":
            return ReasoningPart(redacted=block.need_text("data"))
        case _:
            raise block.unfit("type", f"blocks of type {kind!r} are not offered")


def _text(block: Fields) -> TextPart:
    block.items("citations", 0)  # our answers carry none, the SDK's list is empty
    # What the SDK's ``parse`` helper puts beside the text that it was made from.
    block.take("parsed_output")
    return TextPart(text=block.need_text("text"), cache=read_cache(block))


def _image(block: Fields) -> ImagePart:
    source = block.need("source", block.section("source"))
    match source.choice("type", "base64", "url"):
        case "url":
            part = ImagePart(url=_web(source), cache=read_cache(block))
        case "base64":
            part = ImagePart(
                media_type=source.need_text("media_type"),
                data=_data(source),
                cache=read_cache(block),
            )
        case _:
            raise source.unfit("type", "is required")
    source.end()
    return part


def _document(block: Fields) -> DocumentPart:
    block.refuse("context", "has no place here: put it into a text block")
    citations = block.section("citations")
    if citations is not None:
        if citations.flag("enabled"):
            raise citations.unfit("enabled", "citations are not offered")
        citations.end()
    source = block.need("source", block.section("source"))
    kind = source.choice("type", "base64", "url", "text")
    title, cache = block.text("title"), read_cache(block)
    media_type, data, url = "application/pdf", None, None
    match kind:
        case "url":
            url = _web(source)
        case "base64":
            media_type, data = source.need_text("media_type"), _data(source)
        case "text":
            media_type = source.choice("media_type", "text/plain") or "text/plain"
            data = source.need_text("data").encode()
        case _:
            raise source.unfit("type", "is required")
    source.end()
    return DocumentPart(
        media_type=media_type, data=data, url=url, name=title, cache=cache
    )


def _web(source: Fields) -> str:
    url = source.need_text("url")
    if not url.startswith(WEB):
        raise source.unfit("url", "must be an https:// URL")
    return url


def _data(source: Fields) -> bytes:
    return read_base64(source.need_text("data"), source.at("data"))


def _tool_use(block: Fields) -> ToolCallPart:
    block.refuse("cache_control", "mark the tool's result or a text instead")
    caller = block.section("caller")  # what the API writes beside a plain call
    if caller is not None:
        caller.choice("type", "direct")
        caller.end()
    given = block.need("input", block.json_object("input"))
    return ToolCallPart(
        call_id=block.need_text("id"),
        name=read_name(block),
        arguments=orjson.dumps(given).decode(),
    )


def _tool_result(block: Fields) -> ToolResultPart:
    content: list[TextPart | ImagePart] = []
    for place, part in enumerate(read_content(block, "content")):
        if not isinstance(part, TextPart | ImagePart):
            detail = "a tool's result is text and images here"
            raise block.unfit(f"content[{place}]", detail)
        content.append(part)
    return ToolResultPart(
        call_id=block.need_text("tool_use_id"),
        content=tuple(content),
        is_error=block.flag("is_error") or False,
        cache=read_cache(block),
    )
