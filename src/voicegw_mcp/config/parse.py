"""What voicegw.yaml means. One parser decides it: PyYAML's safe loader, guarded; nothing else reads the file.

Guards: 4 MiB, UTF-8 only, one document, a mapping of strings at the root, no duplicate keys, no foreign tags, bounded
nesting and alias expansion. Every failure is a ``ConfigInvalid`` whose ``details.problems`` name line and column.
May import yaml, ``config.nodes`` and ``errors``.
"""

from __future__ import annotations

import pathlib
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from voicegw_mcp.config.nodes import TAG, UNREADABLE, Composer, Fault, Node, Tree
from voicegw_mcp.errors import ConfigInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BYTES = 4 * 1024 * 1024
BOM = "\ufeff"
Path = tuple[str | int, ...]

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the file, both 1-based; ``file`` is its path when that is not the main one but its overlay."""

    line: int
    column: int
    file: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the file. ``path`` is dotted ("" for the whole file), ``file`` as in ``Mark``."""

    path: str
    line: int
    column: int
    message: str
    hint: str = ""
    file: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return ``{path, line, column, message, hint}``, and ``file`` if set, as it stands in ``details.problems``."""
        return {key: value for key, value in asdict(self).items() if key != "file" or value}


def dotted(path: Sequence[str | int]) -> str:
    """Show a path for people: ``projects.x.tags.0``; what is not printable is escaped."""
    return ".".join(name if (name := str(step)).isprintable() else ascii(name)[1:-1] for step in path)


def invalid(
    problems: Sequence[Problem], *, hint: str = "", file: pathlib.Path | None = None
) -> ConfigInvalid:
    """Make the one error of a broken file from at least one problem; the first in the file is the message."""
    ordered = sorted(problems, key=lambda problem: (problem.line, problem.column))
    first = ordered[0]
    more = f" (and {len(ordered) - 1} more)" if len(ordered) > 1 else ""
    where = f"{first.path}: " if first.path else ""
    named = pathlib.Path(first.file) if first.file else file or pathlib.Path("voicegw.yaml")
    return ConfigInvalid(
        f"{named.name}:{first.line}:{first.column}: {where}{first.message}{more}.",
        hint=hint or first.hint or "Correct the file; `voicegw check` lists every problem.",
        details={"file": str(named), "problems": [problem.as_dict() for problem in ordered]},
    )


def problems_in(error: ConfigInvalid) -> list[Problem]:
    """Return the problems that ``invalid`` put into an error."""
    return [Problem(**problem) for problem in error.details["problems"]]


def _fail(line: int, column: int, message: str, hint: str = "") -> NoReturn:
    raise invalid([Problem("", line, column, message, hint)])


@dataclass(frozen=True, slots=True, eq=False)
class ParsedFile:
    """A file that parses: ``data`` is its meaning ({} when it has no content), ``tree`` where everything stands."""

    text: str
    data: dict[str, Any]
    tree: Tree

    def mark(self, path: Path) -> Mark:
        """Return where ``path`` stands (its key, or the list item); the nearest existing ancestor when it is absent."""
        node, place = self.tree.root, self.tree.root
        for step in path:
            node = node.target if node is not None and node.kind == "alias" else node
            if node is None or node.kind not in ("map", "seq"):
                break
            index = node.find(str(step)) if node.kind == "map" else step
            if not isinstance(index, int) or not 0 <= index < len(node.items):
                break
            place, node = node.items[index]
        return Mark(1, 1) if place is None else Mark(place.line + 1, place.column + 1)


def decode(raw: bytes) -> str:
    """Return the text of a file; a leading BOM stays its first character.

    Raises ConfigInvalid when it is too large, UTF-16 or UTF-32, binary, or not UTF-8 (naming the line).
    """
    if len(raw) > MAX_BYTES:
        _fail(1, 1, f"the file has {len(raw):,} bytes; at most {MAX_BYTES:,} are read")
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        _fail(1, 1, "the file is UTF-16, not UTF-8", "Save it as UTF-8.")
    if b"\0" in raw[:4096]:
        _fail(
            raw[: raw.index(0)].count(b"\n") + 1,
            1,
            "the file holds zero bytes: it is binary or UTF-16, not UTF-8 text",
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line_start = raw.rfind(b"\n", 0, error.start) + 1
        column = len(raw[line_start : error.start].decode("utf-8")) + 1
        line = raw.count(b"\n", 0, error.start) + 1
        _fail(line, column, f"byte 0x{raw[error.start]:02x} is not valid UTF-8", "Save the file as UTF-8.")


def parse(text: str) -> ParsedFile:
    """Return what a text means. Raises ConfigInvalid with every problem found."""
    if len(text) > MAX_BYTES:
        _fail(1, 1, f"the file has more than {MAX_BYTES:,} characters")
    shift = int(text.startswith(BOM))
    strange = _NOT_YAML.search(text, shift)
    if strange:
        line, column = _place(text, strange.start())
        _fail(
            line,
            column,
            f"the character U+{ord(strange[0]):04X} is not allowed in YAML",
            "Remove it, or escape it.",
        )
    loader = Loader(text[shift:])
    try:
        tree = Composer(loader, shift).compose()
        _check(tree)
        return ParsedFile(text, _construct(loader, tree), tree)
    except Fault as fault:
        raise invalid([_problem((), fault)]) from None
    except yaml.MarkedYAMLError as error:
        raise invalid([_syntax(text[shift:], error)]) from None
    finally:
        loader.dispose()


def _check(tree: Tree) -> None:
    root = tree.root
    if root is not None and root.is_null and root.start == root.end:
        tree.root = root = None
    if root is not None and root.kind != "map":
        kinds = {"seq": "a list", "scalar": "a single value", "alias": "an alias"}
        hint = 'Start with a section such as "providers:".'
        _fail(root.line + 1, root.column + 1, f"the file must be a mapping, not {kinds[root.kind]}", hint)
    if tree.faults:
        raise invalid([_problem(path, fault) for path, fault in tree.faults])


def _problem(path: Path, fault: Fault) -> Problem:
    return Problem(dotted(path), fault.line, fault.column, fault.message, fault.hint)


def _construct(loader: Any, tree: Tree) -> dict[str, Any]:
    if tree.root is None:
        return {}
    if not tree.odd:
        return tree.data
    made: dict[Node, yaml.Node] = {}
    try:
        return loader.construct_document(_composed(tree.root, made))
    except UNREADABLE:
        problems = [Problem("", n.line + 1, n.column + 1, _misfit(n)) for n in _misfits(loader, tree.root)]
        raise invalid(problems) from None


def _composed(node: Node, made: dict[Node, yaml.Node]) -> yaml.Node:
    """Return what PyYAML would have composed, each node once: aliases share it."""
    found = made.get(node.target or node)
    if found is None:
        mark = yaml.Mark("", node.start, node.line, node.column, None, 0)
        if node.kind == "scalar":
            found = yaml.ScalarNode(node.tag, node.name, mark, mark)
        elif node.kind == "seq":
            found = yaml.SequenceNode(node.tag, [_composed(item, made) for item, _ in node.items], mark, mark)
        else:
            pairs = [(_composed(key, made), _composed(value, made)) for key, value in node.items]
            found = yaml.MappingNode(node.tag, pairs, mark, mark)
        made[node] = found
    return found


def _misfit(node: Node) -> str:
    return f"{node.name[:60]} is not a valid {node.tag.removeprefix(TAG)}"


def _misfits(loader: Any, root: Node) -> list[Node]:
    found: list[Node] = []
    todo = [root]
    while todo:
        node = todo.pop()
        for key, value in node.items:
            todo.extend({key, value} if node.kind == "map" else {value})
        if node.kind == "scalar" and not node.is_merge:
            loader.constructed_objects, loader.recursive_objects = {}, {}
            try:
                loader.construct_object(_composed(node, {}), deep=True)
            except UNREADABLE:
                found.append(node)
    return sorted(found, key=lambda node: node.start)


def _place(text: str, index: int) -> tuple[int, int]:
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def _syntax(text: str, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    message = error.problem or "this is not YAML"
    lines = text.split("\n")
    if line > len(lines):  # the parser ends a text with a line break of its own
        line, column = len(lines), len(lines[-1]) + 1
    here = lines[line - 1]
    indentation = here[: len(here) - len(here.lstrip(" \t"))]
    if "\t" in indentation:
        return Problem(
            "", line, indentation.index("\t") + 1, "a tab is used for indentation", "Indent with spaces."
        )
    if error.context and mark and error.context_mark and error.context_mark.line != mark.line:
        message = f"{message}, {error.context} that starts in line {error.context_mark.line + 1}"
    elif error.context:
        message = f"{message}, {error.context}"
    hint = (
        'Inside {...} and [...] write references in quotes: "${NAME}".'
        if re.search(r"\$\{\w+\}", here)
        else ""
    )
    return Problem("", line, column, message, hint)
