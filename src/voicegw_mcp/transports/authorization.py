"""What the SDK calls an access token and who checks one, for the HTTP door, which does not meet mcp itself."""

from mcp.server.auth.provider import AccessToken, TokenVerifier

__all__ = ["AccessToken", "TokenVerifier"]
