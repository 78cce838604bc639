"""Read OpenAI's messages: text, images and files in parts, tool calls, results."""

import json
from typing import Final

from sandbox.attachments import (
    IMAGE_TYPES,
    PDF,
    Content,
    count_pages,
    decode,
    require_address,
    split_data_url,
)
from sandbox.conversation import Role, ToolCall, Turn
from sandbox.payload import Json, JsonObject, bad_request, list_of, object_of, text_of

IMAGE_BYTES_MAX: Final = 20 * (1 << 20)
FILE_BYTES_MAX: Final = 32 * (1 << 20)
DETAILS: Final = ("auto", "low", "high", "original")
_ROLES: Final = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
}


def read_turn(message: JsonObject, at: int) -> Turn:
    """
    Read one message.

    Raises:
        RequestRefused: Its role, a part or a tool call is malformed.
    """
    name = text_of(message.get("role"))
    role = _ROLES.get(name)
    if role is None:
        text = f"Invalid value: '{name}'. Supported roles are: {', '.join(_ROLES)}."
        raise bad_request(text, f"messages[{at}].role")
    given = read_content(message.get("content"), f"messages[{at}].content")
    calls = tuple(
        _call(object_of(each), at) for each in list_of(message.get("tool_calls"))
    )
    if message.get("content") is None and not calls:
        text = "Invalid value for 'content': expected a string, got null."
        raise bad_request(text, f"messages[{at}].content")
    call_id = text_of(message.get("tool_call_id"))
    return Turn(
        role, given.text, calls, call_id, images=given.images, pages=given.pages
    )


def read_content(content: Json, path: str) -> Content:
    """
    Read a content of text, images and files.

    Raises:
        RequestRefused: A part is unknown, malformed or too large.
    """
    found = Content()
    if not isinstance(content, list):
        found.texts.append(text_of(content))
        return found
    for at, each in enumerate(content):
        part, place = object_of(each), f"{path}[{at}]"
        match part.get("type"):
            case "text" | "refusal":
                found.texts.append(text_of(part.get("text") or part.get("refusal")))
            case "image_url":
                _read_image(object_of(part.get("image_url")), place)
                found.images += 1
            case "file":
                _read_file(object_of(part.get("file")), place, found)
            case other:
                message = f"Invalid content part type: {other}"
                raise bad_request(message, path)
    return found


def _read_image(image: JsonObject, path: str) -> None:
    url = text_of(image.get("url"))
    if text_of(image.get("detail"), "auto") not in DETAILS:
        message = f"Invalid value for 'detail': use one of {', '.join(DETAILS)}."
        raise bad_request(message, f"{path}.image_url.detail")
    data = split_data_url(url)
    if data is None:
        require_address(url, f"{path}.image_url.url")
        return
    media_type, text = data
    if media_type not in IMAGE_TYPES:
        expected = ", ".join(IMAGE_TYPES)
        message = f"You uploaded an unsupported image. Give one of {expected}."
        raise bad_request(message, f"{path}.image_url.url")
    decode(text, f"{path}.image_url.url", IMAGE_BYTES_MAX)


def _read_file(file: JsonObject, path: str, found: Content) -> None:
    data = split_data_url(text_of(file.get("file_data")))
    if data is None:
        message = (
            "Missing required parameter: 'file.file_data', a base64 data URL. The "
            "sandbox keeps no files, so that a file_id names none."
        )
        raise bad_request(message, f"{path}.file")
    media_type, text = data
    decoded = decode(text, f"{path}.file.file_data", FILE_BYTES_MAX)
    if media_type == PDF:
        found.pages += count_pages(decoded, f"{path}.file.file_data")
    elif media_type.startswith("text/"):
        found.texts.append(decoded.decode(errors="replace"))
    else:
        message = f"Invalid file data: expected {PDF} or text, got {media_type}."
        raise bad_request(message, f"{path}.file.file_data")


def _call(call: JsonObject, at: int) -> ToolCall:
    function = object_of(call.get("function"))
    call_id, name = text_of(call.get("id")), text_of(function.get("name"))
    if not call_id or not name:
        message = "A tool call needs an 'id' and a 'function.name'."
        raise bad_request(message, f"messages[{at}].tool_calls")
    try:
        arguments: Json = json.loads(text_of(function.get("arguments")) or "{}")
    except ValueError:
        arguments = {}
    return ToolCall(name, object_of(arguments), call_id)
