"""Every error the program can answer with. The docstring is the tree; imports nothing of ours.

::

    GatewayError
    ├── InvalidInput           VALIDATION_ERROR                     400  exit 2
    ├── NotFound               {PROVIDER,MODEL,PROJECT}_NOT_FOUND   404  exit 1
    ├── AlreadyExists          {...}_ALREADY_EXISTS                 409  exit 1
    ├── Conflict               CONFLICT                             409  exit 1
    ├── ConfirmationRequired   CONFIRMATION_REQUIRED                409  exit 1
    ├── ReadOnly               READ_ONLY_RESOURCE                   403  exit 1
    ├── Forbidden              FORBIDDEN                            403  exit 1
    ├── BudgetExceeded         BUDGET_EXCEEDED                      402  exit 1
    ├── RateLimited            RATE_LIMIT_REACHED                   429  exit 1
    ├── ProviderFailed         PROVIDER_TEST_FAILED                 502  exit 1
    ├── ConfigInvalid          CONFIG_INVALID                       503  exit 2
    ├── StoreUnavailable       STORE_UNAVAILABLE                    503  exit 3
    ├── ServerUnreachable      SERVER_UNREACHABLE                   502  exit 1
    └── InternalError          INTERNAL_ERROR                       500  exit 70

Handlers raise these; only the doors (``server.py``, ``cli``) catch them. ``message`` says what was wrong with which
value, ``hint`` what to do next, ``details`` what a program may need. None of them ever holds a secret.
"""

from __future__ import annotations

import difflib
import uuid
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EntryKind = Literal["provider", "model", "project"]

MAX_ECHO = 80
"""Characters of a caller's value that an error repeats; the rest is cut."""


def quote(value: object) -> str:
    """Show a caller's value inside a message: repr, cut to ``MAX_ECHO`` characters, no control characters."""
    text = ascii(value) if not isinstance(value, str) or not value.isprintable() else repr(value)
    return text if len(text) <= MAX_ECHO else f"{text[: MAX_ECHO - 1]}…"


def nearest(value: str, valid: Iterable[str], *, count: int = 3) -> list[str]:
    """Return up to ``count`` valid names that look most like ``value``."""
    return difflib.get_close_matches(value[:200], list(valid), n=count, cutoff=0.5)


class GatewayError(Exception):
    """Base of the tree; ``code`` is the stable name a program matches on."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details: dict[str, Any] = dict(details or {})

    @property
    def error_code(self) -> str:
        """The code of this instance; subclasses with a kind put the kind in front."""
        return self.code

    def payload(self) -> dict[str, Any]:
        """Return the one shape of every failure: ``{"error": {code, message, hint, details}}``."""
        error: dict[str, Any] = {"code": self.error_code, "message": self.message}
        if self.hint:
            error["hint"] = self.hint
        if self.details:
            error["details"] = self.details
        return {"error": error}


class InvalidInput(GatewayError):
    """An argument is missing, unknown, of the wrong type or outside its range. ``field`` names it."""

    code = "VALIDATION_ERROR"
    http_status = 400
    exit_code = 2

    def __init__(
        self, message: str, *, field: str = "", hint: str = "", details: Mapping[str, Any] | None = None
    ) -> None:
        named = {"field": field, **(details or {})} if field else details
        super().__init__(message, hint=hint, details=named)


class NotFound(GatewayError):
    """Nothing has this id; near matches are offered."""

    http_status = 404
    exit_code = 1

    def __init__(self, kind: EntryKind, entry_id: str, known: Iterable[str] = ()) -> None:
        near = nearest(entry_id, known)
        super().__init__(
            f"No {kind} has the id {quote(entry_id)}.",
            hint=f"Did you mean {', '.join(near)}?" if near else f"Call list_{kind}s for the ids there are.",
            details={"field": f"{kind}_id", "nearest": near},
        )
        self.kind = kind

    @property
    def error_code(self) -> str:
        """PROVIDER_NOT_FOUND, MODEL_NOT_FOUND or PROJECT_NOT_FOUND."""
        return f"{self.kind.upper()}_NOT_FOUND"


class AlreadyExists(GatewayError):
    """The id is taken."""

    http_status = 409
    exit_code = 1

    def __init__(self, kind: EntryKind, entry_id: str, *, where: str = "") -> None:
        super().__init__(
            f"A {kind} with the id {quote(entry_id)} exists already{where}.",
            hint="Choose another id, or pass on_conflict=update to change the existing one.",
            details={"field": f"{kind}_id"},
        )
        self.kind = kind

    @property
    def error_code(self) -> str:
        """PROVIDER_ALREADY_EXISTS, MODEL_ALREADY_EXISTS or PROJECT_ALREADY_EXISTS."""
        return f"{self.kind.upper()}_ALREADY_EXISTS"


class Conflict(GatewayError):
    """The configuration is no longer the one the change was planned on, or other entries stand in the way."""

    code = "CONFLICT"
    http_status = 409
    exit_code = 1


class ConfirmationRequired(GatewayError):
    """A destructive call without ``confirm``; ``details`` hold the whole impact."""

    code = "CONFIRMATION_REQUIRED"
    http_status = 409
    exit_code = 1


class ReadOnly(GatewayError):
    """The entry, the file or the server does not take changes."""

    code = "READ_ONLY_RESOURCE"
    http_status = 403
    exit_code = 1


class Forbidden(GatewayError):
    """The caller may not do this."""

    code = "FORBIDDEN"
    http_status = 403
    exit_code = 1


class BudgetExceeded(GatewayError):
    """The project's budget for the day is spent and its action is ``block``."""

    code = "BUDGET_EXCEEDED"
    http_status = 402
    exit_code = 1


class RateLimited(GatewayError):
    """A process sent a provider as many requests within a minute as ``rate_limits`` allows."""

    code = "RATE_LIMIT_REACHED"
    http_status = 429
    exit_code = 1


class ProviderFailed(GatewayError):
    """A provider answered with a failure, or not at all."""

    code = "PROVIDER_TEST_FAILED"
    http_status = 502
    exit_code = 1


class ConfigInvalid(GatewayError):
    """``voicegw.yaml`` does not parse or does not fit; ``details.problems`` lists all, with path, line and column."""

    code = "CONFIG_INVALID"
    http_status = 503
    exit_code = 2


class StoreUnavailable(GatewayError):
    """The store is locked, full, damaged, or newer than this program."""

    code = "STORE_UNAVAILABLE"
    http_status = 503
    exit_code = 3


class ServerUnreachable(GatewayError):
    """A client found no MCP server where it looked, or lost it; an authorization server does not give its keys; a webhook takes no event."""

    code = "SERVER_UNREACHABLE"
    http_status = 502
    exit_code = 1


class InternalError(GatewayError):
    """Our fault. The reference id joins the answer to the traceback in the server's log."""

    def __init__(self) -> None:
        self.reference = uuid.uuid4().hex[:12]
        super().__init__(
            f"Something went wrong inside the server (reference {self.reference}).",
            hint="Please report it with the lines around this reference in the server's log (stderr).",
            details={"reference": self.reference},
        )
