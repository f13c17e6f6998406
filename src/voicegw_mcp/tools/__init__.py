"""What the product does: the seventeen tools, in the order they are listed, and toolsets that are asked for by name.

May import ``core`` and below.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from voicegw_mcp.errors import InvalidInput, nearest, quote
from voicegw_mcp.tools.define import Tool
from voicegw_mcp.tools.history import list_changes, undo_change
from voicegw_mcp.tools.models import delete_model, list_models, register_model
from voicegw_mcp.tools.observe import get_costs, get_health, get_latency_stats, get_logs, get_provider_status
from voicegw_mcp.tools.projects import create_project, delete_project, get_project, list_projects
from voicegw_mcp.tools.providers import (
    add_provider,
    delete_provider,
    get_provider,
    list_providers,
    test_provider,
)

TOOLS: Final[tuple[Tool, ...]] = (
    get_health,
    get_provider_status,
    get_costs,
    get_latency_stats,
    get_logs,
    list_providers,
    get_provider,
    test_provider,
    add_provider,
    delete_provider,
    list_models,
    register_model,
    delete_model,
    list_projects,
    get_project,
    create_project,
    delete_project,
)

TOOLSETS: Final[Mapping[str, tuple[Tool, ...]]] = {"core": TOOLS, "history": (list_changes, undo_change)}
"""Tools by the name of their set. ``core`` is always there; every other one costs each conversation its tokens."""

ALL: Final = "all"
"""Stands for every toolset there is, for scripts."""


def choose_tools(
    toolsets: Iterable[str] = (),
    *,
    only: Iterable[str] = (),
    without: Iterable[str] = (),
    read_only: bool = False,
) -> tuple[Tool, ...]:
    """Return the tools to offer, each once, in the order of ``TOOLSETS``.

    What takes away comes last and wins: ``without`` and ``read_only`` hold whatever was asked for by name. Every text may
    hold several names with commas between.

    Args:
        toolsets: names of toolsets; ``core`` is always among them, ``all`` is every one.
        only: names of tools of any toolset; when there are some, just these are offered.
        without: names of tools of any toolset that are not offered.
        read_only: offer only what changes nothing and sends nothing to a provider.

    Raises:
        InvalidInput: a name is unknown (the nearest one is offered) or empty, or nothing is left to offer.
    """
    known = {tool.name: tool for tools in TOOLSETS.values() for tool in tools}
    asked = _names(toolsets, [*TOOLSETS, ALL], option="toolsets", kind="toolset")
    named = _names(only, known, option="tools", kind="tool")
    excluded = _names(without, known, option="exclude_tools", kind="tool")
    if not named:
        sets = TOOLSETS if ALL in asked else {"core", *asked}
        named = {tool.name for name in sets for tool in TOOLSETS[name]}
    chosen = tuple(
        tool
        for name, tool in known.items()
        if name in named - excluded and (not read_only or (tool.read_only and not tool.open_world))
    )
    if not chosen:
        raise InvalidInput(
            "No tool is left to offer.",
            field="tools",
            hint="Exclude less"
            + (", or leave --read-only out: none of the tools named only reads." if read_only else "."),
        )
    missing = known.keys() - {tool.name for tool in chosen}
    return tuple(tool.speaking_without(missing) for tool in chosen)


def _names(texts: Iterable[str], known: Iterable[str], *, option: str, kind: str) -> set[str]:
    """Return the names in the texts of an option.

    Raises:
        InvalidInput: one is unknown, or empty: an empty list must not mean everything.
    """
    valid = list(known)
    found: set[str] = set()
    for text in texts:
        names = {part.strip() for part in text.split(",")}
        if "" in names:
            raise InvalidInput(
                f"--{option.replace('_', '-')} {quote(text)} holds an empty name.",
                field=option,
                hint=f"Write each {kind} once with a comma between, or leave the option out.",
            )
        for name in sorted(names - set(valid)):
            near = nearest(name, valid, count=1)
            raise InvalidInput(
                f"There is no {kind} {quote(name)}.",
                field=option,
                hint=(f"Did you mean {near[0]}? " if near else "") + f"There are: {', '.join(valid)}.",
                details={"nearest": near},
            )
        found |= names
    return found
