"""An MCP server with which coding agents manage a voice-AI gateway.

Importing this package does nothing but name its version; the doors are ``voicegw_mcp.cli``.
"""

__version__ = "0.1.0"
