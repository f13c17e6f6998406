"""Why the gateway is right: catalog, changes, prices, budgets, reports and probes, without MCP, HTTP or SQL."""
