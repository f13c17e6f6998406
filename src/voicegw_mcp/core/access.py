"""What a caller may do, by his role. Checked here, so that every door obeys.

May import ``domain`` and ``errors``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from voicegw_mcp.domain import Role
from voicegw_mcp.errors import Forbidden

_ORDER: Final = {Role.VIEWER: 0, Role.OPERATOR: 1, Role.ADMIN: 2}


@dataclass(frozen=True, slots=True)
class Access:
    """A role."""

    role: Role = Role.ADMIN

    def require(self, role: Role, action: str) -> None:
        """Refuse who has a lesser role.

        Raises:
            Forbidden: naming the role that is needed.
        """
        if _ORDER[self.role] < _ORDER[role]:
            raise Forbidden(
                f"{action} needs the role {role}; this token has {self.role}.",
                hint=f"Use a token with the role {role} (auth.api_keys in voicegw.yaml).",
                details={"role": str(self.role), "needed": str(role)},
            )


EVERYTHING: Final = Access()
"""Who started the program himself: it asks him for no token."""
