"""The messages API's tools, how they may be used, and the shape of the answer."""

from typing import Final

from contracts.completions import OutputSchema, ToolChoice, ToolMode, ToolSpec
from gateway.domain.anthropic_blocks import read_cache
from gateway.domain.fields import Fields, within
from gateway.domain.tool_name import read_name

MODES: Final = {
    "auto": ToolMode.AUTO,
    "any": ToolMode.REQUIRED,
    "tool": ToolMode.NAMED,
    "none": ToolMode.NONE,
}


def read_tools(fields: Fields, most: int) -> tuple[ToolSpec, ...]:
    """Return the tools that the model may ask for."""
    return tuple(within(tool, _tool) for tool in fields.sections("tools", most))


def read_tool_choice(fields: Fields, tools: tuple[ToolSpec, ...]) -> ToolChoice:
    """Return how the tools may be used; only with tools there is something to say."""
    if not tools:
        fields.refuse("tool_choice", "may only be given with tools")
    section = fields.section("tool_choice")
    return ToolChoice() if section is None else within(section, _choice)


def read_schema(wanted: Fields) -> OutputSchema:
    """Return the schema of ``output_config.format``."""
    wanted.need("type", wanted.choice("type", "json_schema"))
    return OutputSchema(json_schema=wanted.need("schema", wanted.json_object("schema")))


def _tool(tool: Fields) -> ToolSpec:
    kind = tool.text("type") or "custom"
    if kind != "custom":
        raise tool.unfit("type", f"tools that the vendor runs are not offered: {kind}")
    return ToolSpec(
        name=read_name(tool),
        description=tool.text("description") or "",
        parameters=tool.need("input_schema", tool.json_object("input_schema")),
        strict=tool.flag("strict"),
        cache=read_cache(tool),
    )


def _choice(choice: Fields) -> ToolChoice:
    kind = choice.need("type", choice.choice("type", *MODES))
    mode = MODES[kind]
    is_single = choice.flag("disable_parallel_tool_use")
    return ToolChoice(
        mode=mode,
        name=read_name(choice) if mode is ToolMode.NAMED else None,
        parallel=None if is_single is None else not is_single,
    )
