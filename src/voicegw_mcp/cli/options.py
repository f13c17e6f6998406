"""The options that several commands have. May import typer and ``errors``."""

import re
from typing import Annotated, Final

import typer

from voicegw_mcp.errors import InvalidInput, quote

SEARCHED: Final = (
    "VOICEGW_CONFIG, ./voicegw.yaml, ~/.config/voicegateway/voicegw.yaml, /etc/voicegateway/voicegw.yaml"
)

Config = Annotated[
    str | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help=f"The voicegw.yaml to work on; else the first of: {SEARCHED}."
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="A running server instead: Streamable HTTP, or HTTP+SSE when it ends in /sse.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, also for an error.")]


def require_url(url: str) -> None:
    """Refuse what is no address of a server.

    Raises:
        InvalidInput: it repeats the text without user and password.
    """
    if re.fullmatch(r"https?://[^\s/?#@]+([/?#][^\s]*)?", url) is None or not url.isprintable():
        raise InvalidInput(
            f"{quote(re.sub(r'//[^/?#]*@', '//', url))} is not an http or https URL without user and password.",
            field="url",
            hint="Write for example http://127.0.0.1:8080/mcp",
        )
