"""
Images and documents: checked and counted, not seen.

An image costs a flat number of tokens. A PDF costs so much a page, its pages counted
in its bytes; one that is given by its address has a page, for nothing is fetched.
What is text in a document is read as text.
"""

import base64
import re
from dataclasses import dataclass, field
from typing import Final

from sandbox.payload import bad_request

IMAGE_TYPES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
PDF: Final = "application/pdf"
PAGES_MAX: Final = 100
_PAGE: Final = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,")


@dataclass
class Content:
    """What the parts of one message add up to."""

    texts: list[str] = field(default_factory=list[str])
    images: int = 0
    pages: int = 0

    @property
    def text(self) -> str:
        """All that can be read."""
        return "\n".join(self.texts)


def decode(data: str, path: str, bytes_max: int) -> bytes:
    """
    Decode base64 of at most so many bytes.

    Raises:
        RequestRefused: It is no base64, empty or too large.
    """
    if len(data) // 4 * 3 > bytes_max + 2:
        size, limit = len(data) // 4 * 3, bytes_max // (1 << 20)
        message = f"{path}: file exceeds {limit} MB maximum: {size} > {bytes_max} bytes"
        raise bad_request(message, path)
    try:
        decoded = base64.b64decode(data, validate=True)
    except ValueError as cause:
        message = f"{path}: Invalid base64 data"
        raise bad_request(message, path) from cause
    if not decoded:
        message = f"{path}: the file is empty"
        raise bad_request(message, path)
    return decoded


def count_pages(data: bytes, path: str) -> int:
    """
    Return the number of a PDF's pages, at least 1.

    Raises:
        RequestRefused: It is no PDF, or has too many pages.
    """
    if not data.startswith(b"%PDF-"):
        message = f"{path}: The PDF specified was not valid."
        raise bad_request(message, path)
    pages = max(len(_PAGE.findall(data)), 1)
    if pages > PAGES_MAX:
        message = f"{path}: A maximum of {PAGES_MAX} PDF pages may be provided."
        raise bad_request(message, path)
    return pages


def split_data_url(url: str) -> tuple[str, str] | None:
    """Return media type and base64 of a data URL, None for anything else."""
    match = _DATA_URL.match(url)
    return (match[1], url[match.end() :]) if match else None


def require_address(url: str, path: str) -> None:
    """
    Check that a file is given by an address of the web; it is not fetched.

    Raises:
        RequestRefused: It is not.
    """
    if not re.match(r"https?://[^\s/]+", url):
        message = f"{path}: Invalid URL '{url[:80]}'. Give a http(s) or data URL."
        raise bad_request(message, path)
