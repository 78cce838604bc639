"""The base of everything on the wire."""

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue


class Message(BaseModel):
    """A frozen wire model; unknown fields are ignored, so N reads N+1."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )

    def encode(self) -> bytes:
        """Return the JSON that travels; absent options are left out."""
        return self.model_dump_json(exclude_none=True, by_alias=True).encode()


class Document(Message):
    """A model that people write: an unknown field is an error, not ignored."""

    model_config = ConfigDict(extra="forbid")


Instant = AwareDatetime
Json = JsonValue
JsonObject = dict[str, JsonValue]
Count = Annotated[int, Field(ge=0, le=2**53)]
