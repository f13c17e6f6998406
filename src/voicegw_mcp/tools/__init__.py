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


def choose_tools(names: Iterable[str]) -> tuple[Tool, ...]:
    """Return the tools of ``core`` and of the toolsets that are named, each once.

    Args:
        names: names of toolsets, or several in one text with commas between.

    Raises:
        InvalidInput: a name is unknown; the nearest one is offered.
    """
    asked = {part.strip() for text in names for part in text.split(",")} - {""}
    for name in sorted(asked - set(TOOLSETS)):
        near = nearest(name, TOOLSETS, count=1)
        raise InvalidInput(
            f"There is no toolset {quote(name)}.",
            field="toolsets",
            hint=(f"Did you mean {near[0]}? " if near else "") + f"There are: {', '.join(TOOLSETS)}.",
            details={"nearest": near},
        )
    return tuple(tool for name, tools in TOOLSETS.items() if name in {"core", *asked} for tool in tools)
