"""
Both SDKs made to ask the same, so that one test can ask it of every pair.

A door is an SDK; a vendor is reached by the model's name.
"""

import base64
import json
from dataclasses import dataclass
from typing import Any, Protocol

from sdk_clients import SUMS, Clients, Letter

SCHEMA: Any = {
    "type": "object",
    "properties": {"expression": {"type": "string"}},
    "required": ["expression"],
    "additionalProperties": False,
}
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that is asked for."""

    call_id: str
    expression: str


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, in no protocol's words."""

    text: str
    calls: tuple[Call, ...]
    is_finished: bool
    """Whether it is a proper end, rather than a wish for tools."""
    input_tokens: int
    output_tokens: int
    back: Any
    """The SDK's own object, to be sent back as it is."""


class Door(Protocol):
    """One SDK, made to ask the same as the other."""

    def ask(
        self, messages: list[Any], *, model: str, tools: bool, single: bool
    ) -> Said:
        """Ask in one piece."""
        ...

    def stream(self, messages: list[Any], *, model: str, tools: bool) -> Said:
        """Ask in pieces."""
        ...

    def results(self, calls: tuple[Call, ...]) -> list[Any]:
        """Return the messages that answer calls."""
        ...

    def picture(self, data: bytes) -> Any:
        """Return a message with a picture of this much data."""
        ...

    def document(self, text: str) -> Any:
        """Return a message with a document of this text."""
        ...

    def parse(self, messages: list[Any], *, model: str) -> Any:
        """Ask for a letter."""
        ...


class OpenAIDoor:
    """The openai SDK."""

    def __init__(self, clients: Clients) -> None:
        self._chat = clients.chat

    def ask(
        self, messages: list[Any], *, model: str, tools: bool, single: bool
    ) -> Said:
        fields = self._fields(messages, model, tools=tools)
        if single:
            fields["parallel_tool_calls"] = False
        return self._said(self._chat.create(**fields))

    def stream(self, messages: list[Any], *, model: str, tools: bool) -> Said:
        options = {"include_usage": True}
        fields = self._fields(messages, model, tools=tools)
        with self._chat.stream(**fields, stream_options=options) as stream:
            return self._said(stream.get_final_completion())

    def results(self, calls: tuple[Call, ...]) -> list[Any]:
        return [
            {"role": "tool", "tool_call_id": x.call_id, "content": SUMS[x.expression]}
            for x in calls
        ]

    def picture(self, data: bytes) -> Any:
        url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        return user_message(
            {"type": "text", "text": 'say "seen"'},
            {"type": "image_url", "image_url": {"url": url}},
        )

    def document(self, text: str) -> Any:
        url = f"data:text/plain;base64,{base64.b64encode(text.encode()).decode()}"
        file = {"filename": "letter.txt", "file_data": url}
        return user_message({"type": "file", "file": file})

    def parse(self, messages: list[Any], *, model: str) -> Any:
        found = self._chat.parse(model=model, messages=messages, response_format=Letter)
        return found.choices[0].message.parsed

    def _fields(
        self, messages: list[Any], model: str, *, tools: bool
    ) -> dict[str, Any]:
        function = {"name": "calculator", "parameters": SCHEMA, "strict": True}
        fields: dict[str, Any] = {"model": model, "messages": messages}
        if tools:
            fields["tools"] = [{"type": "function", "function": function}]
        return fields

    def _said(self, answer: Any) -> Said:
        message = answer.choices[0].message
        return Said(
            text=message.content or "",
            calls=tuple(
                Call(x.id, _expression(x.function.arguments))
                for x in message.tool_calls or ()
            ),
            is_finished=answer.choices[0].finish_reason == "stop",
            input_tokens=answer.usage.prompt_tokens,
            output_tokens=answer.usage.completion_tokens,
            back=message,
        )


class AnthropicDoor:
    """The anthropic SDK."""

    def __init__(self, clients: Clients) -> None:
        self._messages = clients.messages

    def ask(
        self, messages: list[Any], *, model: str, tools: bool, single: bool
    ) -> Said:
        fields = self._fields(messages, model, tools=tools)
        if single:
            choice = {"type": "auto", "disable_parallel_tool_use": True}
            fields["tool_choice"] = choice
        return self._said(self._messages.create(**fields))

    def stream(self, messages: list[Any], *, model: str, tools: bool) -> Said:
        fields = self._fields(messages, model, tools=tools)
        with self._messages.stream(**fields) as stream:
            return self._said(stream.get_final_message())

    def results(self, calls: tuple[Call, ...]) -> list[Any]:
        blocks = [
            {
                "type": "tool_result",
                "tool_use_id": x.call_id,
                "content": SUMS[x.expression],
            }
            for x in calls
        ]
        return [user_message(*blocks)]

    def picture(self, data: bytes) -> Any:
        source = {
            "type": "base64",
            "media_type": "image/png",
            "data": base64.b64encode(data).decode(),
        }
        return user_message(
            {"type": "text", "text": 'say "seen"'}, {"type": "image", "source": source}
        )

    def document(self, text: str) -> Any:
        source = {"type": "text", "media_type": "text/plain", "data": text}
        return user_message(
            {"type": "document", "source": source, "title": "letter.txt"}
        )

    def parse(self, messages: list[Any], *, model: str) -> Any:
        return self._messages.parse(
            model=model, max_tokens=900, messages=messages, output_format=Letter
        ).parsed_output

    def _fields(
        self, messages: list[Any], model: str, *, tools: bool
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "model": model,
            "max_tokens": 900,
            "messages": messages,
        }
        if tools:
            fields["tools"] = [{"name": "calculator", "input_schema": SCHEMA}]
        return fields

    def _said(self, message: Any) -> Said:
        usage = message.usage
        return Said(
            text="".join(x.text for x in message.content if x.type == "text"),
            calls=tuple(
                Call(x.id, x.input["expression"])
                for x in message.content
                if x.type == "tool_use"
            ),
            is_finished=message.stop_reason == "end_turn",
            input_tokens=usage.input_tokens
            + usage.cache_read_input_tokens
            + usage.cache_creation_input_tokens,
            output_tokens=usage.output_tokens,
            back={"role": "assistant", "content": message.content},
        )


DOORS: Any = {"openai": OpenAIDoor, "anthropic": AnthropicDoor}


def user_message(*content: Any) -> Any:
    """Return a user's message of these parts or blocks."""
    return {"role": "user", "content": list(content)}


def _expression(arguments: str) -> str:
    found: dict[str, str] = json.loads(arguments)
    return found["expression"]
