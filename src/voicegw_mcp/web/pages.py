"""The dashboard's page and its files: what of the package is sent to a browser, and what the browser may do with it.

A fixed table of paths, so that no path leads to another file. They hold nothing of the gateway and need no token; all
figures come through the API, which asks for one. Imports Starlette, ``errors`` and ``web.guard``.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.web.guard import refuse

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from starlette.types import ASGIApp, Receive, Scope, Send

FILES: Final = (
    "api.js",
    "app.js",
    "budgets.js",
    "changes.js",
    "chart.js",
    "colours.js",
    "dom.js",
    "format.js",
    "icon.svg",
    "latency.js",
    "log-row.js",
    "log.js",
    "overview.js",
    "polling.js",
    "providers.js",
    "session.js",
    "spend.js",
    "stream.js",
    "style.css",
    "theme.css",
    "theme.js",
    "timeline.js",
    "vendor/uplot-1.6.32.iife.min.js",
    "vendor/uplot-1.6.32.min.css",
)
PATHS: Final = {"/": "index.html", **{f"/dashboard/{name}": name for name in FILES}}

_TYPES: Final = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing inline, nothing from elsewhere, no frame around it; and text that becomes markup is an error of the browser's."""

_HEADERS: Final = {
    "cache-control": "no-cache",
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Page:
    """One file, with the mark by which a browser asks whether it still has the right one."""

    def __init__(self, file: Traversable) -> None:
        self._body = file.read_bytes()
        self._type = _TYPES[file.name.rpartition(".")[2]]
        self._tag = f'"{hashlib.sha256(self._body).hexdigest()[:32]}"'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        await self._answer(scope)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response:
        if scope["method"] not in {"GET", "HEAD"}:
            error = InvalidInput("The dashboard's files answer GET.", hint="See the header Allow.")
            return refuse(405, error, {"allow": "GET, HEAD"})
        headers = {**_HEADERS, "etag": self._tag}
        asked = b", ".join(value for name, value in scope["headers"] if name == b"if-none-match")
        if self._tag in {item.strip().removeprefix("W/") for item in asked.decode("latin-1").split(",")}:
            return Response(status_code=304, headers=headers)
        return Response(self._body, headers=headers, media_type=self._type)


def read_pages() -> dict[str, ASGIApp]:
    """Return what answers at each path of the dashboard."""
    folder = files("voicegw_mcp.web") / "dashboard"
    return {path: Page(folder / name) for path, name in PATHS.items()}
