"""The names that both vendors take for tools and schemas."""

import re
from typing import Final

from gateway.domain.fields import Fields

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def read_name(fields: Fields) -> str:
    """
    Return the field ``name``.

    Raises:
        Unfit: It is no name.
    """
    name = fields.need_text("name")
    if NAME.fullmatch(name) is None:
        detail = "must be 1 to 64 letters, digits, underscores and dashes"
        raise fields.unfit("name", detail)
    return name
