"""What must never reach a log line: secrets, and what people wrote."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, cast

REDACTED: Final = "[redacted]"
DEPTH_MAX: Final = 4
TEXT_MAX: Final = 2_000

_SECRET_KEYS: Final = frozenset(
    {
        "password",
        "passwd",
        "secret",
        "token",
        "authorization",
        "cookie",
        "set_cookie",
        "api_key",
        "apikey",
        "x_api_key",
        "credentials",
        "seed",
        "nkey",
        "jwt",
    }
)
_CONTENT_KEYS: Final = frozenset(
    {
        "goal",
        "prompt",
        "body",
        "content",
        "messages",
        "turns",
        "instructions",
        "input",
        "output",
        "arguments",
        "result",
        "text",
        "files",
    }
)
_SECRET_ENDINGS: Final = (
    "_password",
    "_secret",
    "_token",
    "_api_key",
    "_credentials",
    "_authorization",
)
_SECRET_TEXT: Final = re.compile(
    r"\b(?:de_[A-Za-z0-9]+_[A-Za-z0-9]+"
    r"|sk-[A-Za-z0-9_-]{8,}"
    r"|Bearer\s+[A-Za-z0-9._~+/=-]+"
    r"|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)",
    re.ASCII,
)


@lru_cache(maxsize=1_024)
def is_private(key: str) -> bool:
    """Tell whether a value under this key must not be written."""
    name = key.lower().replace("-", "_")
    return (
        name in _SECRET_KEYS or name in _CONTENT_KEYS or name.endswith(_SECRET_ENDINGS)
    )


def redact(value: object, depth: int = 0) -> object:
    """Return the value with private parts masked and long texts cut."""
    if isinstance(value, str):
        text = value if len(value) <= TEXT_MAX else value[:TEXT_MAX] + "…"
        return _SECRET_TEXT.sub(REDACTED, text)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray):
        return f"[{len(value)} bytes]"
    return REDACTED if depth >= DEPTH_MAX else _redact_inside(value, depth + 1)


def _redact_inside(value: object, depth: int) -> object:
    if isinstance(value, Mapping):
        fields = cast("Mapping[object, object]", value)
        return redact_mapping({str(key): fields[key] for key in fields}, depth)
    if isinstance(value, list | tuple):
        return [redact(item, depth) for item in cast("Sequence[object]", value)]
    if isinstance(value, set | frozenset):
        members = cast("frozenset[object]", value)
        return [redact(item, depth) for item in sorted(members, key=str)]
    return redact(str(value), depth)


def redact_mapping(fields: Mapping[str, object], depth: int = 0) -> dict[str, object]:
    """Return the fields, those with private names masked."""
    return {
        key: REDACTED if is_private(key) else redact(value, depth)
        for key, value in fields.items()
    }
