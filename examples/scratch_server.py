"""A gateway to try things on, served over HTTP: what `make run` starts.

Its configuration and store are in `.run/` of this checkout, written when they are not there; nothing of the user's home is
read or touched. It serves until Ctrl-C or a signal.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VOICEGW = Path(sys.executable).parent / "voicegw"
HOST, FIRST_PORT, PORTS = "127.0.0.1", 8080, 100


def free_port() -> int:
    """Return the first port from 8080 on which nobody listens; 0, for any, when there is none of a hundred."""
    for port in range(FIRST_PORT, FIRST_PORT + PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    return 0


def main() -> None:
    """Write what is missing and become the server."""
    folder = ROOT / ".run"
    file = folder / "voicegw.yaml"
    environment = {**os.environ, "VOICEGW_DB_PATH": str(folder / "voicegw.db")}
    if not file.exists():
        subprocess.run(
            [VOICEGW, "init", file, "--json"], env=environment, stdout=subprocess.DEVNULL, check=True
        )
    print(
        f"A scratch gateway in {folder.name}/ (delete the folder to begin anew); Ctrl-C ends it.", flush=True
    )
    command = [str(VOICEGW), "serve", "--port", str(free_port()), "--config", str(file)]
    os.execve(VOICEGW, command, environment)  # noqa: S606 - signals and the exit code are the server's own


if __name__ == "__main__":
    main()
