"""``python -m voicegw_mcp`` is ``voicegw-mcp``: the MCP server over stdio."""

from voicegw_mcp.cli.stdio import main

if __name__ == "__main__":
    main()
