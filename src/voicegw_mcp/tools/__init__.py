"""What the product does: the seventeen tools, in the order they are listed. May import ``core`` and below."""

from typing import Final

from voicegw_mcp.tools.define import Tool
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
