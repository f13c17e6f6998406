"""Where the files of a model are, looked at when an instance is made, so that what is missing is told at once and by its path.

May import ``errors`` only.
"""

from __future__ import annotations

from pathlib import Path

from voicegw_mcp.errors import InvalidInput, quote


def require_file(named: str | Path, *, option: str, hint: str) -> Path:
    """Return the path of a file that has to be there; ``~`` is the home folder, else relative to the working folder.

    Args:
        named: the path.
        option: what names it, for the error.
        hint: what to do when it is missing.

    Raises:
        InvalidInput: there is no such file.
    """
    path = _path(named, option)
    if not path.is_file():
        raise InvalidInput(f"There is no file {shown(path)}.", field=option, hint=hint)
    return path


def require_folder(named: str | Path, *, option: str, hint: str, files: tuple[str, ...] = ()) -> Path:
    """Return the path of a folder that has to be there, with files in it; otherwise as ``require_file``.

    Raises:
        InvalidInput: there is no such folder, or one of the files is not in it.
    """
    path = _path(named, option)
    if not path.is_dir():
        raise InvalidInput(f"There is no folder {shown(path)}.", field=option, hint=hint)
    for name in files:
        if not (path / name).is_file():
            raise InvalidInput(f"The folder {shown(path)} has no {name}.", field=option, hint=hint)
    return path


def shown(path: Path) -> str:
    """Return a path for a message: whole, as a path that is cut leads nowhere, and without control characters."""
    text = str(path)
    return repr(text) if text.isprintable() else ascii(text)


def _path(named: str | Path, option: str) -> Path:
    try:
        return Path(named).expanduser()
    except (TypeError, RuntimeError) as error:  # no text; no home
        raise InvalidInput(
            f"{option} {quote(named)} is no path.", field=option, hint="Write a path, best from / or ~ on."
        ) from error
