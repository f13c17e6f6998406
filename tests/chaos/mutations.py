"""What can happen to the bytes of a configuration file: mistakes of people, editors, disks, and attacks on the parser."""

import random
from collections.abc import Callable

Mutation = Callable[[random.Random, bytes], bytes]

SYNTAX = [b"{", b"}", b"[", b"]", b":", b": ", b"- ", b"#", b" #", b"&a ", b"*a", b"!", b"!!map ", b"|", b">", b"'", b'"',
          b"%", b"@", b"`", b"? ", b",", b"---\n", b"...\n", b"<<: ", b"\\", b"~", b"\t", b"\r", b"\xc2\x85", b"\xe2\x80\xa8"]  # fmt: skip
NASTY = [
    b"projects:\n  p: {name: P, daily_budget: " + b"9" * 5000 + b"}\n",
    b"projects:\n  p: {name: P, daily_budget: 1e999}\n",
    b"projects:\n  p: {name: P, daily_budget: .nan}\n",
    b"projects:\n  p: {name: P, daily_budget: 12:30:45}\n",
    b"projects:\n  p: {name: 2026-02-30}\n",
    b"projects:\n  p: {name: 2026-02-28}\n",
    b"projects:\n  1: {name: One}\n",
    b"projects:\n  no: {name: No}\n",
    b"projects:\n  ? [a, b]\n  : {name: P}\n",
    b"projects:\n  ? {a: b}\n  : {name: P}\n",
    b"projects: !!python/object/apply:os.system ['true']\n",
    b"projects: !!binary //8=\n",
    b"projects: !!set {a, b}\n",
    b"projects: !!omap [a: 1]\n",
    b"projects:\n  p: !!str {name: P}\n",
    b'projects:\n  p: {name: "\\ud800"}\n',
    b'projects:\n  p: {name: "\\0"}\n',
    b'projects:\n  p: {name: "\\x1b[31m"}\n',
    b"%YAML 1.2\n---\nprojects: {}\n",
    b"%YAML 9.9\n---\nprojects: {}\n",
    b"%TAG ! tag:x,2000:\n---\nprojects: !x {}\n",
    b"projects: {}\n---\nprojects: {}\n",
    b"projects: {}\n...\nrubbish: [\n",
    b"--- !!map\nprojects: {}\n",
    b"projects: &p\n  p: *p\n",
    b"&root projects: *root\n",
    b"- projects\n",
    b"projects\n",
    b"projects: null\nproviders: ~\nmodels:\n",
    b"projects: []\nproviders: 7\n",
    b"",
    b"\n\n\n",
    b"# only a comment",
    b"\xef\xbb\xbf",
    b"---\n",
    b"null\n",
    b"models:\n  stt: {a: {provider: x}}\n  llm: {a: {provider: x}}\n",
    b"timezone: Nowhere/Land\n",
    b"projects: {p: {name: ${NOT_SET}}}\n",
    b"projects: {p: {name: '${NOT_SET}'}}\n",
    b"a" * 200_000,
    b"projects:\n  " + b"p" * 5000 + b": {name: P}\n",
]


def _flip(chance: random.Random, raw: bytes) -> bytes:
    out = bytearray(raw)
    for _ in range(chance.randint(1, 5)):
        out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
    return bytes(out)


def _lines(change: Callable[[random.Random, list[bytes], int], None]) -> Mutation:
    def mutate(chance: random.Random, raw: bytes) -> bytes:
        lines = raw.splitlines(keepends=True)
        for _ in range(chance.randint(1, 3)):
            change(chance, lines, chance.randrange(len(lines)))
        return b"".join(lines)

    return mutate


def _delete(_chance: random.Random, lines: list[bytes], at: int) -> None:
    if len(lines) > 1:
        del lines[at]


def _duplicate(chance: random.Random, lines: list[bytes], at: int) -> None:
    lines.insert(chance.randrange(len(lines) + 1), lines[at])


def _indent(chance: random.Random, lines: list[bytes], at: int) -> None:
    lines[at] = b" " * chance.randint(1, 3) + lines[at]


def _outdent(chance: random.Random, lines: list[bytes], at: int) -> None:
    lines[at] = lines[at].removeprefix(b" " * chance.randint(1, 2))


def _tab(_chance: random.Random, lines: list[bytes], at: int) -> None:
    lines[at] = b"\t" + lines[at].lstrip()


def _swap(chance: random.Random, lines: list[bytes], at: int) -> None:
    other = chance.randrange(len(lines))
    lines[at], lines[other] = lines[other], lines[at]


def _insert(what: Callable[[random.Random], bytes]) -> Mutation:
    def mutate(chance: random.Random, raw: bytes) -> bytes:
        at = chance.randrange(len(raw) + 1)
        return raw[:at] + what(chance) + raw[at:]

    return mutate


def _encoded(chance: random.Random, raw: bytes) -> bytes:
    text = raw.decode() + "# Ü\n"
    return text.encode(chance.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "latin-1")))


def _deep(chance: random.Random, raw: bytes) -> bytes:
    depth = chance.choice((15, 60, 400, 5000, 100_000))
    if chance.random() < 0.5:
        return raw + b"deep: " + b"[" * depth + (b"]" * depth if chance.random() < 0.5 else b"") + b"\n"
    if chance.random() < 0.5:
        return raw + b"deep: " + b"{a: " * depth + b"}" * depth + b"\n"
    depth = min(depth, 1500)
    return raw + b"deep:\n" + b"".join(b" " * (level + 1) + b"a:\n" for level in range(depth))


def _huge(chance: random.Random, raw: bytes) -> bytes:
    size = chance.choice((10_000, 1_000_000, 4_300_000))
    text = chance.choice((b"x", b"x ", b"\xc3\xbc", b"1")) * size
    shape = chance.choice(
        (
            b"  huge: {name: P, description: %s}\n",
            b"# %s\n",
            b"  huge:\n    name: P\n    description: |\n      %s\n",
        )
    )
    return raw + shape.replace(b"%s", text[:size])


def _bomb(chance: random.Random, raw: bytes) -> bytes:
    levels, width = chance.choice(((3, 3), (6, 9), (9, 9), (25, 2)))
    kind = chance.choice(("list", "map", "merge"))
    lines = [b"bomb:", b"  x0: &x0 {k: v}" if kind != "list" else b"  x0: &x0 [v]"]
    for level in range(1, levels + 1):
        aliases = [b"*x%d" % (level - 1)] * width
        if kind == "list":
            inner = b"[" + b", ".join(aliases) + b"]"
        elif kind == "map":
            inner = b"{" + b", ".join(b"k%d: %s" % pair for pair in enumerate(aliases)) + b"}"
        else:
            inner = b"{<<: [" + b", ".join(aliases) + b"], k%d: v}" % level
        lines.append(b"  x%d: &x%d %s" % (level, level, inner))
    text = b"\n".join(lines) + b"\n"
    # In a section that allows unknown keys it must be served, elsewhere it is refused as unknown.
    return raw + (
        text if chance.random() < 0.3 else text.replace(b"bomb:", b"  bomb:\n    name: B\n    tags:", 1)
    )


def _nasty(chance: random.Random, _raw: bytes) -> bytes:
    return chance.choice(NASTY)


MUTATIONS: dict[str, Mutation] = {
    "flipped bits": _flip,
    "cut off": lambda chance, raw: raw[: chance.randrange(len(raw))],
    "deleted lines": _lines(_delete),
    "duplicated lines": _lines(_duplicate),
    "indented lines": _lines(_indent),
    "lines further left": _lines(_outdent),
    "swapped lines": _lines(_swap),
    "tabs": _lines(_tab),
    "syntax characters": _insert(lambda chance: chance.choice(SYNTAX)),
    "binary junk": _insert(lambda chance: chance.randbytes(chance.choice((1, 8, 2000)))),
    "another encoding": _encoded,
    "deep nesting": _deep,
    "huge texts": _huge,
    "aliases and merge keys": _bomb,
    "odd files": _nasty,
}
"""By the names under which the report counts them."""


def mutated(seed: int, number: int, raw: bytes) -> tuple[str, bytes]:
    """Return the kind of the mutation with this number, and what it makes of the file."""
    kinds = list(MUTATIONS)
    kind = kinds[number % len(kinds)]
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - drawn again from the seed
    return kind, MUTATIONS[kind](chance, raw)
