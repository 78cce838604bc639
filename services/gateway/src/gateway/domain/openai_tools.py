"""Chat completions' tools, how they may be used, and the shape of the answer."""

from typing import Final

from contracts.completions import OutputSchema, ToolChoice, ToolMode, ToolSpec
from contracts.message import JsonObject
from gateway.domain.fields import Fields, within
from gateway.domain.tool_name import read_name

NO_ARGUMENTS: Final[JsonObject] = {"type": "object", "properties": {}}
MODES: Final = {
    "auto": ToolMode.AUTO,
    "none": ToolMode.NONE,
    "required": ToolMode.REQUIRED,
}


def read_tools(fields: Fields, most: int) -> tuple[ToolSpec, ...]:
    """Return the tools that the model may ask for."""
    return tuple(within(tool, _tool) for tool in fields.sections("tools", most))


def read_tool_choice(fields: Fields, tools: tuple[ToolSpec, ...]) -> ToolChoice:
    """Return how the tools may be used; only with tools there is something to say."""
    for name in ("tool_choice", "parallel_tool_calls"):
        if not tools:
            fields.refuse(name, "is only allowed when 'tools' are specified")
    parallel = fields.flag("parallel_tool_calls")
    chosen = fields.take("tool_choice")
    if chosen is None:
        return ToolChoice(parallel=parallel)
    if isinstance(chosen, str):
        mode = MODES.get(chosen)
        if mode is None:
            detail = f"must be one of {', '.join(MODES)}, or name a function"
            raise fields.unfit("tool_choice", detail)
        return ToolChoice(mode=mode, parallel=parallel)
    name = within(Fields(chosen, fields.at("tool_choice")), _named)
    return ToolChoice(mode=ToolMode.NAMED, name=name, parallel=parallel)


def read_format(fields: Fields) -> OutputSchema | JsonObject | None:
    """Return a schema, the object of a format without one, or None for text."""
    section = fields.section("response_format")
    return None if section is None else within(section, _format)


def _tool(tool: Fields) -> ToolSpec:
    kind = tool.need_text("type")
    if kind != "function":
        raise tool.unfit("type", f"only function tools are offered, not {kind!r}")
    return within(tool.need("function", tool.section("function")), _function)


def _function(function: Fields) -> ToolSpec:
    return ToolSpec(
        name=read_name(function),
        description=function.text("description") or "",
        parameters=function.json_object("parameters") or NO_ARGUMENTS,
        strict=function.flag("strict"),
    )


def _named(choice: Fields) -> str:
    kind = choice.need_text("type")
    if kind != "function":
        raise choice.unfit("type", f"only 'function' is offered, not {kind!r}")
    return within(choice.need("function", choice.section("function")), read_name)


def _format(wanted: Fields) -> OutputSchema | JsonObject | None:
    kind = wanted.choice("type", "text", "json_object", "json_schema")
    match wanted.need("type", kind):
        case "text":
            return None
        case "json_object":
            return {"type": "json_object"}
        case _:
            return within(
                wanted.need("json_schema", wanted.section("json_schema")), _schema
            )


def _schema(section: Fields) -> OutputSchema:
    section.refuse("description", "put it into the schema's own description")
    return OutputSchema(
        name=read_name(section),
        json_schema=section.need("schema", section.json_object("schema")),
        strict=section.flag("strict") or False,
    )
