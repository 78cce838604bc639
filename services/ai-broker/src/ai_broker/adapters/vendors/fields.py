"""
What is read out of a vendor's JSON: light, and strict where content is at stake.

A field that is absent or null is nothing; one of another type is not the protocol,
since a text that is skipped would be an answer with a hole. Counts are more
forgiving: what is no whole number was not counted, and gets estimated.
"""

from typing import cast

import orjson

from contracts.message import Json, JsonObject

COUNT_MAX = 2**53


class NotTheProtocol(ValueError):
    """A vendor sent what its protocol does not allow."""


def parsed(data: bytes, what: str) -> JsonObject:
    """Return an event's object."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as cause:
        message = f"{what} that is not JSON"
        raise NotTheProtocol(message) from cause
    if type(found) is not dict:
        message = f"{what} that is no JSON object"
        raise NotTheProtocol(message)
    # cast: orjson makes nothing but JSON.
    return cast("JsonObject", found)


def text(source: JsonObject, name: str) -> str:
    """Return a text, empty where it is absent."""
    found = source.get(name)
    if found is None:
        return ""
    if type(found) is not str:
        message = f"a {name} that is no text"
        raise NotTheProtocol(message)
    return found


def child(source: JsonObject, name: str) -> JsonObject:
    """Return an object, empty where it is absent."""
    found = source.get(name)
    if found is None:
        return {}
    if type(found) is not dict:
        message = f"a {name} that is no object"
        raise NotTheProtocol(message)
    return found


def children(source: JsonObject, name: str) -> list[JsonObject]:
    """Return a list of objects, empty where it is absent."""
    found = source.get(name)
    if found is None:
        return []
    if type(found) is list:
        for each in found:
            if type(each) is not dict:
                break
        else:
            # cast: every member was looked at.
            return cast("list[JsonObject]", found)
    message = f"{name} that are no list of objects"
    raise NotTheProtocol(message)


def index(source: JsonObject) -> int:
    """Return the place of a part, 0 where it is absent."""
    found = source.get("index")
    if found is None:
        return 0
    if type(found) is not int:
        message = "an index that is no number"
        raise NotTheProtocol(message)
    return found


def count(source: Json, name: str) -> int | None:
    """Return a count; None where the vendor did not count, 0 where it says 0."""
    if not isinstance(source, dict):
        return None
    found = source.get(name)
    if type(found) is not int or found > COUNT_MAX:
        return None
    return max(found, 0)
