"""What a caller may do and see, by his role and his projects. Checked here, so that every door obeys.

May import ``domain`` and ``errors``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from voicegw_mcp.domain import Role
from voicegw_mcp.errors import Forbidden, quote

ACCESS_TOKEN: Final = "VOICEGW_MCP_TOKEN"  # noqa: S105 - a variable's name
"""The variable of the one token that opens everything, as VoiceGateway names it; in the environment or ``secrets.env``."""

_ORDER: Final = {Role.VIEWER: 0, Role.OPERATOR: 1, Role.ADMIN: 2}
MOST_NAMED: Final = 5
"""Projects that a message names."""


@dataclass(frozen=True, slots=True)
class Access:
    """A role, and the ids of the projects it is for; None is all of them.

    Who is bound to projects reads only their rows and entries, and changes only their entries. Providers and models
    are of all projects: he may read them, and not change them.
    """

    role: Role = Role.ADMIN
    projects: frozenset[str] | None = None

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

    def require_all_projects(self, what: str) -> None:
        """Refuse who is bound to projects what is of all of them.

        Raises:
            Forbidden: naming ``what``, and his projects.
        """
        if self.projects is not None:
            raise self._bound(f"{what} is of all projects")

    def require_project(self, project_id: str) -> None:
        """Refuse who is bound to other projects.

        Raises:
            Forbidden: naming his projects.
        """
        if self.projects is not None and project_id not in self.projects:
            raise self._bound(f"Project {quote(project_id)} is another one")

    def _bound(self, why: str) -> Forbidden:
        names = [quote(name) for name in sorted(self.projects or ())]
        more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
        return Forbidden(
            f"{why}; this caller is bound to {', '.join([*names[:MOST_NAMED], *more]) or 'no project'}.",
            hint="Use a token with other `projects` (auth.api_keys in voicegw.yaml), or a server without --project.",
            details={"projects": sorted(self.projects or ())},
        )

    def within(self, other: Access) -> Access:
        """Return what both allow."""
        if other == EVERYTHING:
            return self
        role = min(self.role, other.role, key=_ORDER.__getitem__)
        if self.projects is None or other.projects is None:
            return Access(role, self.projects if other.projects is None else other.projects)
        return Access(role, self.projects & other.projects)


EVERYTHING: Final = Access()
"""Who started the program himself: it asks him for no token."""
