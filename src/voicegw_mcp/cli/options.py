"""The options every command has. May import typer only."""

from typing import Annotated, Final

import typer

SEARCHED: Final = (
    "VOICEGW_CONFIG, ./voicegw.yaml, ~/.config/voicegateway/voicegw.yaml, /etc/voicegateway/voicegw.yaml"
)

Config = Annotated[
    str | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help=f"The voicegw.yaml to work on; else the first of: {SEARCHED}."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, also for an error.")]
