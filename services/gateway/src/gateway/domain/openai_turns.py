"""
Chat completions' messages as turns.

``developer`` is the newer word for ``system``. Reasoning has no field of OpenAI's
own: it comes back in the two that compatible vendors use and that our answers carry,
``reasoning_details`` where a vendor signed it, else ``reasoning_content``.
"""

from collections.abc import Iterator
from typing import Final

from contracts.completions import (
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
from gateway.domain.fields import Fields, Unfit, within
from gateway.domain.inline_data import Inline, read_base64, read_url
from gateway.domain.question import PARTS_MAX, TURNS_MAX

ROLES: Final = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
}
PDF: Final = b"%PDF"


def read_turns(fields: Fields) -> tuple[ChatTurn, ...]:
    """
    Return the conversation.

    Raises:
        Unfit: A message is not as it must be, or has what we cannot carry.
    """
    turns = tuple(
        within(message, _turn) for message in fields.sections("messages", TURNS_MAX)
    )
    if not turns:
        raise fields.unfit("messages", "give at least one message")
    return turns


def _turn(message: Fields) -> ChatTurn:
    spoken = message.need_text("role")
    role = ROLES.get(spoken)
    if role is None:
        detail = f"must be one of {', '.join(ROLES)}, not {spoken!r}"
        raise message.unfit("role", detail)
    parts: tuple[Part, ...]
    match role:
        case Role.ASSISTANT:
            parts = tuple(_said(message))
        case Role.TOOL:
            parts = (_result(message),)
        case Role.SYSTEM | Role.USER:
            parts = tuple(_content(message, role))
    if not parts:
        raise message.unfit("content", "is required")
    return ChatTurn(role=role, parts=parts, name=message.text("name"))


def _content(message: Fields, role: Role) -> Iterator[Part]:
    """Yield what a message says: one string, or a list of parts."""
    content = message.text_or_sections("content", PARTS_MAX)
    if isinstance(content, str):
        yield TextPart(text=content)
    else:
        for part in content or ():
            yield within(part, lambda part: _part(part, role))


def _part(part: Fields, role: Role) -> Part:
    kind = part.need_text("type")
    match kind, role:
        case "text", _:
            return TextPart(text=part.need_text("text"))
        case "refusal", Role.ASSISTANT:
            return RefusalPart(text=part.need_text("refusal"))
        case "image_url", Role.USER:
            return within(part.need("image_url", part.section("image_url")), _image)
        case "file", Role.USER:
            return within(part.need("file", part.section("file")), _file)
        case _:
            detail = f"a part of type {kind!r} cannot stand in a {role} message here"
            raise part.unfit("type", detail)


def _image(image: Fields) -> ImagePart:
    found = read_url(image.need_text("url"), image.at("url"))
    detail = image.choice("detail", "auto", "low", "high", "original")
    if isinstance(found, Inline):
        kind, data = found.media_type, found.data
        return ImagePart(media_type=kind, data=data, detail=detail)
    return ImagePart(url=found, detail=detail)


def _file(file: Fields) -> DocumentPart:
    file.refuse("file_id", "uploaded files are not kept here: send file_data")
    text, name = file.need_text("file_data"), file.text("filename")
    where = file.at("file_data")
    if text.startswith("data:"):
        found = read_url(text, where)
        assert isinstance(found, Inline)  # noqa: S101 -- by its scheme
        kind, data = found.media_type, found.data
        return DocumentPart(media_type=kind, data=data, name=name)
    data = read_base64(text, where)
    if not data.startswith(PDF):
        raise Unfit(where, "say what it is: data:<media type>;base64,<data>")
    return DocumentPart(media_type="application/pdf", data=data, name=name)


def _said(message: Fields) -> Iterator[Part]:
    """Yield an assistant's parts: reasoning, words, calls."""
    message.refuse("audio", "audio is not offered: give the transcript as content")
    message.refuse("function_call", "use tool_calls")
    message.items("annotations", 0)  # our answers carry none, the SDK's list is empty
    # What the SDK's ``parse`` helpers put beside the text that it was made from.
    message.take("parsed")
    yield from _reasoning(message)
    yield from _content(message, Role.ASSISTANT)
    refusal = message.text("refusal")
    if refusal is not None:
        yield RefusalPart(text=refusal)
    for call in message.sections("tool_calls", PARTS_MAX):
        yield within(call, _call)


def _reasoning(message: Fields) -> Iterator[Part]:
    text = message.text("reasoning_content")
    if not message.has("reasoning_details"):
        if text:
            yield ReasoningPart(text=text)
        return
    for detail in message.sections("reasoning_details", PARTS_MAX):
        yield within(detail, _reasoning_detail)


def _reasoning_detail(detail: Fields) -> ReasoningPart:
    kind = detail.need_text("type")
    match kind:
        case "reasoning.text":
            text, signature = detail.text("text") or "", detail.text("signature")
            return ReasoningPart(text=text, signature=signature)
        case "reasoning.encrypted":
            return ReasoningPart(redacted=detail.need_text("data"))
        case _:
            raise detail.unfit("type", f"{kind!r} is not known here: leave it out")


def _call(call: Fields) -> ToolCallPart:
    kind = call.text("type") or "function"
    if kind != "function":
        raise call.unfit("type", f"only function calls are offered, not {kind!r}")
    call.take("index")
    call_id = call.need_text("id")

    def read(function: Fields) -> ToolCallPart:
        function.take("parsed_arguments")  # the SDK's own reading of ``arguments``
        return ToolCallPart(
            call_id=call_id,
            name=function.need_text("name"),
            arguments=function.need_text("arguments"),
        )

    return within(call.need("function", call.section("function")), read)


def _result(message: Fields) -> ToolResultPart:
    call_id = message.need_text("tool_call_id")
    content = tuple(
        part for part in _content(message, Role.TOOL) if isinstance(part, TextPart)
    )
    return ToolResultPart(call_id=call_id, content=content)
