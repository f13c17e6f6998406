"""For whom a call is made: the project and the conversation, as context variables.

A context variable and not a global, so that conversations in one process keep apart: each task has its own, and the
tasks it starts inherit it. May import ``core.catalog``, ``domain`` and ``errors``; never LiveKit.
"""

from __future__ import annotations

import os
import secrets
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from voicegw_mcp.domain import DEFAULT_PROJECT
from voicegw_mcp.errors import InvalidInput, NotFound, quote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from voicegw_mcp.core.catalog import Catalog, ProjectEntry

PROJECT_VARIABLE: Final = "VOICEGW_ACTIVE_PROJECT"
"""The environment variable that names the project where ``set_project`` was not called."""

MOST_SESSION_CHARACTERS: Final = 200

T = TypeVar("T")

_ENVIRONMENT: Final[Mapping[Any, Any]] = getattr(os.environ, "_data", os.environ)
"""What stands behind ``os.environ``, as it is at any moment: to find by that that a variable is not set takes as long as half of
what else is done before a request."""
_PROJECT_KEY: Final = (
    PROJECT_VARIABLE if _ENVIRONMENT is os.environ else os.environ.encodekey(PROJECT_VARIABLE)
)

_project: ContextVar[str | None] = ContextVar("voicegw_project", default=None)
_session: ContextVar[str | None] = ContextVar("voicegw_session", default=None)


class Setting(Generic[T]):
    """A value that is set in this context from now on; as a context manager, until its block ends.

    Leaving the block puts back what was set before it, in whatever context that happens.
    """

    def __init__(self, variable: ContextVar[T], value: T) -> None:
        self.value = value
        self._variable = variable
        self._before = variable.get()
        variable.set(value)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._variable.set(self._before)

    def __str__(self) -> str:
        return str(self.value)


def set_project(catalog: Catalog, project_id: str) -> Setting[str | None]:
    """Make ``project_id`` the project of this context.

    Raises:
        InvalidInput: the id is no text.
        NotFound: there is no such project; near matches are named.
    """
    _require_text(
        project_id, "project_id", "Pass the id of a project; without set_project the default one counts."
    )
    return Setting(_project, catalog.project(project_id).id)


def set_session(session_id: str | None) -> Setting[str | None]:
    """Make ``session_id`` the conversation of this context; None begins one with an id of its own.

    Raises:
        InvalidInput: the id is no text, empty, too long or holds control characters.
    """
    if session_id is None:
        return Setting(_session, f"vg-{secrets.token_hex(8)}")
    hint = f"Pass 1 to {MOST_SESSION_CHARACTERS} printable characters."
    _require_text(session_id, "session_id", hint)
    if not session_id or len(session_id) > MOST_SESSION_CHARACTERS or not session_id.isprintable():
        raise InvalidInput(f"{quote(session_id)} is no id of a session.", field="session_id", hint=hint)
    return Setting(_session, session_id)


session_id: Final = _session.get
"""Returns the conversation of this context, None when none was begun."""

project_set: Final = _project.get
"""Returns the project that ``set_project`` named in this context, None when it named none."""


def project_named(made_for: str | None = None) -> str | None:
    """Return the project a call of this context is counted on by its code or environment, None when they name none.

    Args:
        made_for: ``Leaf.project`` of the instance that is called.
    """
    return (
        _project.get()
        or made_for
        or (os.environ[PROJECT_VARIABLE] if _PROJECT_KEY in _ENVIRONMENT else None)
        or None
    )


def default_project(catalog: Catalog) -> str:
    """Return the project of calls for which none is named."""
    return catalog.settings.default_project or DEFAULT_PROJECT


def project_id(catalog: Catalog, made_for: str | None = None) -> str:
    """Return the project a call of this context counts on, without asking whether there is one of that id.

    Args:
        catalog: what is configured now.
        made_for: ``Leaf.project`` of the instance that is called.
    """
    return project_named(made_for) or default_project(catalog)


def active_project(catalog: Catalog) -> ProjectEntry:
    """Return the project of this context: ``set_project``, ``VOICEGW_ACTIVE_PROJECT``, ``default_project``, ``default``.

    Raises:
        NotFound: what names it names none there is; the message tells which of them it was.
    """
    named = project_id(catalog)
    try:
        return catalog.project(named)
    except NotFound as error:
        if _project.get() is not None:
            source = "set_project"
        elif os.environ.get(PROJECT_VARIABLE):
            source = PROJECT_VARIABLE
        else:
            source = f"default_project in {catalog.configuration.path.name}"
        error.add_note(f"The project was named by {source}.")
        raise


def _require_text(value: object, field: str, hint: str) -> None:
    if not isinstance(value, str):
        raise InvalidInput(f"{quote(repr(value))} is no text.", field=field, hint=hint)
