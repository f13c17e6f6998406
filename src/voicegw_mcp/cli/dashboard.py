"""Where the dashboard listens besides the server's own port: VoiceGateway's ``dashboard:`` section and ``--dashboard-port``.

It is the same application on a second address. May import ``config``, ``core``, ``transports``, ``web`` and ``errors``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from voicegw_mcp.errors import ConfigInvalid, InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    import socket

    from voicegw_mcp.cli.options import Listen
    from voicegw_mcp.config.schema import Dashboard
    from voicegw_mcp.core.gateway import Gateway


class Place(NamedTuple):
    """A second address. ``asked`` says that somebody named its port: then it has to be that one."""

    host: str
    port: int
    asked: bool


def read_section(gateway: Gateway) -> Dashboard:
    """Return the section ``dashboard`` of the file; the defaults while it is broken, as the server starts all the same."""
    from voicegw_mcp.config.schema import Dashboard  # noqa: PLC0415 - none of this is needed for --help

    try:
        return gateway.catalogs.get().settings.dashboard
    except ConfigInvalid:
        return Dashboard()


def choose_place(section: Dashboard, main: Listen, port: int | None) -> Place | None:
    """Return the second address, None for none.

    Args:
        section: of the file.
        main: where the server itself listens. Without ``dashboard.host`` the dashboard is on the same host: VoiceGateway's
            default, every address, would open a server that was started for this machine alone.
        port: the one of the command line; counts more than the file.

    Raises:
        InvalidInput: a port was named for a dashboard that is switched off.
    """
    if not section.enabled:
        if port is not None:
            raise InvalidInput(
                "--dashboard-port names a port, and dashboard.enabled is false.",
                field="dashboard_port",
                hint="Leave the option out, or remove dashboard.enabled from the file.",
            )
        return None
    given = section.model_fields_set
    host = section.host if "host" in given else main.host
    place = Place(host, section.port if port is None else port, port is not None or "port" in given)
    return None if place.port and place[:2] == (main.host, main.port) else place


def listen_second(place: Place) -> socket.socket | None:
    """Return a bound socket; None when the usual port is taken and nobody asked for it: the page is at the main one as well.

    Raises:
        StoreUnavailable: the address cannot be listened on.
    """
    from voicegw_mcp.transports.http import listen  # noqa: PLC0415 - likewise

    try:
        return listen(place.host, place.port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and not place.asked:
            return None
        raise StoreUnavailable(
            f"{place.host}:{place.port} cannot be listened on for the dashboard ({error.strerror}).",
            hint="Choose another --dashboard-port or dashboard.port; 0 chooses a free one.",
        ) from error
