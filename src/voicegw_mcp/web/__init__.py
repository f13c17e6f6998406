"""The HTTP door: who may enter, and one ASGI application. May import Starlette, mcp, ``server``, ``core`` and below."""
