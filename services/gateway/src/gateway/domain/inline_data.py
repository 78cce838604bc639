"""Bytes inside a request: base64, alone or as a ``data:`` URL."""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from gateway.domain.fields import Unfit

DATA_URL: Final = re.compile(
    r"data:([\w.+-]+/[\w.+-]+)((?:;[\w.+-]+=[\w.+-]+)*);base64,"
)
WEB: Final = ("https://", "http://")


@dataclass(frozen=True, slots=True)
class Inline:
    """Bytes and what they are."""

    media_type: str
    data: bytes


def read_url(url: str, field: str) -> Inline | str:
    """
    Return the bytes of a ``data:`` URL, or the address of a web one.

    Raises:
        Unfit: It is neither, or its base64 is broken.
    """
    if url.startswith(WEB):
        return url
    head = DATA_URL.match(url)
    if head is None:
        detail = "must be an https:// URL, or data:<media type>;base64,<data>"
        raise Unfit(field, detail)
    return Inline(head[1], read_base64(url[head.end() :], field))


def read_base64(text: str, field: str) -> bytes:
    """
    Return the bytes.

    Raises:
        Unfit: It is not base64, or nothing.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as cause:
        raise Unfit(field, "is not base64") from cause
    if not data:
        raise Unfit(field, "is empty")
    return data
