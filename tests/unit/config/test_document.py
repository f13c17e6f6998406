"""The editing engine: hand-made cases from tests/config_cases, and properties over random documents and edits."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings, strategies as st

from voicegw_mcp.config import emit, values
from voicegw_mcp.config.document import (
    DELETE,
    Edit,
    apply_edits,
    apply_to_data,
    edited,
    entry_text,
    unified_diff,
)
from voicegw_mcp.config.excerpt import Excerpt, apply_steps, record_steps
from voicegw_mcp.config.parse import Loader, parse
from voicegw_mcp.config.redaction import shown
from voicegw_mcp.errors import ConfigInvalid, Conflict

CORPUS = Path(__file__).parents[2] / "config_cases"
CASES = sorted(CORPUS.rglob("*.case"))


def read_case(path):
    head, rest = path.read_text("utf-8").split("<<<<<< input\n")
    before, after = rest.split("======", 1)
    kind, body = after.split("\n", 1)
    body = body.removesuffix(">>>>>> end\n")
    options = dict(line.split(": ", 1) for line in head.split("\n") if line and not line.startswith("#"))
    edits = [
        Edit(tuple(e["path"]), DELETE if e.get("delete") else e["value"])
        for e in json.loads(options["edits"])
    ]

    def shaped(text):
        if options.get("final-newline") == "no":
            text = text.removesuffix("\n")
        text = text.replace("\n", "\r\n") if options.get("newline") == "crlf" else text
        return ("\ufeff" if options.get("bom") == "yes" else "") + text

    error = kind.strip().removeprefix("error:").strip() if kind.strip().startswith("error") else None
    return shaped(before), edits, shaped(body), error


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path):
    before, edits, after, error = read_case(path)
    if error is not None:
        with pytest.raises(ConfigInvalid) as caught:
            apply_edits(before, edits)
        assert error in caught.value.message
        return
    assert apply_edits(before, edits) == after
    assert apply_edits(after, [e for e in edits if e.value is not DELETE]) == after
    text = after
    for excerpt in reversed(record_steps(apply_steps(parse(before), edits), [edit.path for edit in edits])):
        text = restored(text, Excerpt.from_dict(json.loads(json.dumps(excerpt.as_dict(), default=str))))
    assert text == before


def test_there_are_more_than_three_hundred_cases_and_no_two_are_the_same():
    assert len(CASES) >= 350
    edits = {path.read_text("utf-8").split("\n", 1)[1] for path in CASES}
    assert len(edits) == len(CASES)


def last_line(node):
    """The line of a node's last content, by PyYAML's own marks; comments and blank lines below are not content."""
    if isinstance(node, yaml.ScalarNode):
        past = (
            node.style in ("|", ">")
            and node.end_mark.column == 0
            and node.end_mark.line > node.start_mark.line
        )
        return node.end_mark.line - past
    if node.flow_style or not node.value:
        return node.end_mark.line
    if isinstance(node, yaml.SequenceNode):
        return last_line(node.value[-1])
    key, value = node.value[-1]
    return max(key.end_mark.line, last_line(value))  # an alias has the marks of what it repeats, further up


def places(root, path):
    """Pairs of key and value on the way to an entry, as far as it is written."""
    found, node = [], root
    for step in path:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        here = [(key, value) for key, value in pairs if key.value == step]
        if not here:
            break
        found.append(here[0])
        node = here[0][1]
    return found, node


def may_change(text, lines, edit):
    """The numbers of the lines that an edit of this entry may touch, found without the engine."""
    root = yaml.compose(text.removeprefix("\ufeff"), Loader=Loader)
    if root is None:
        return set()
    found, node = places(root, edit.path)
    around = [root, *(value for _, value in found)]
    touched = {key.start_mark.line for key, _ in found[-2:]}
    for parent in around:
        if isinstance(parent, yaml.CollectionNode) and parent.flow_style:
            touched |= set(range(parent.start_mark.line, parent.end_mark.line + 1))
    if len(found) < len(edit.path):
        return touched | ({node.start_mark.line} if isinstance(node, yaml.ScalarNode) else set())
    key, value = found[-1]
    first, last, column = (
        key.start_mark.line,
        max(key.end_mark.line, last_line(value)),
        key.start_mark.column,
    )
    depths = [len(line) - len(line.lstrip()) if line.lstrip().startswith("#") else None for line in lines]
    while edit.value is DELETE and first and depths[first - 1] == column:
        first -= 1
    while last + 1 < len(lines) and (not lines[last + 1].strip() or (depths[last + 1] or 0) > column):
        last += 1
    return touched | set(range(first, last + 1))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_line_outside_the_edited_entries_is_still_there_in_order(path):
    before, edits, after, error = read_case(path)
    if error is not None:
        return
    lines = before.removeprefix("\ufeff").splitlines()
    touched = set().union(*(may_change(before, lines, edit) for edit in edits))
    kept = iter(after.removeprefix("\ufeff").splitlines())
    lost = [line for n, line in enumerate(lines) if n not in touched and line.strip() and line not in kept]
    assert lost == []


def load_generator():
    spec = importlib.util.spec_from_file_location("config_cases_generate", CORPUS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


GENERATOR = load_generator()


def test_generated_cases_are_what_the_generator_writes(capsys):
    assert GENERATOR.main(["--check"]) is False, capsys.readouterr().out


@pytest.mark.parametrize("name", ["comments-above", "bom-crlf", "flow-lines", "json"])
def test_file_of_two_thousand_lines_changes_only_in_the_entry(name, monkeypatch):
    def numbered(entries):
        return (dataclasses.replace(entry, name=f"{entry.name}-{n}") for n in range(60) for entry in entries)

    many = {path: (*entries, *numbered(entries)) for path, entries in GENERATOR.DOCUMENT.items()}
    monkeypatch.setattr(GENERATOR, "DOCUMENT", many)
    layout = next(layout for layout in GENERATOR.LAYOUTS if layout.name == name)
    text = layout.render(layout.document())
    assert text.count("\n") >= 2000 or layout.form == "lines"
    parsed = parse(text)
    for operation, kind in [("add", "model"), ("update", "provider"), ("delete", "project")]:
        path = GENERATOR.KINDS[kind]
        entry, value, expected = layout.operate(operation, path)
        edit = Edit((*path, entry), DELETE if value is None else value)
        assert edited(parsed, [edit]).text == layout.render(expected)


def test_each_line_keeps_its_own_line_end_where_they_are_mixed():
    text = "providers:\r\n  a:\n    k: 1\r\n  b:\n    k: 2\r\nprojects: {}\n"
    assert (
        apply_edits(text, [Edit(("providers", "b"), DELETE)])
        == "providers:\r\n  a:\n    k: 1\r\nprojects: {}\n"
    )
    added = apply_edits(text, [Edit(("providers", "c"), {"k": 3})])
    assert added == text.replace("projects", "  c:\r\n    k: 3\r\nprojects")
    assert apply_edits(text, [Edit(("providers", "a", "k"), 5)]) == text.replace("k: 1", "k: 5")


# -- random documents --------------------------------------------------------------------------------------------

NAMES = ["openai", "deepgram/nova-3", "ollama/qwen2.5:3b", "a", "b-c", "übung", "x y", "10"]
SCALARS = [
    "1",
    "2.5",
    "true",
    "~",
    "plain text",
    '"quoted"',
    "'single'",
    "${KEY}",
    "deepgram/nova-3",
    '"yes"',
    "😀 x",
]
COMMENTS = ["# note", "#", "# key: value", "#\ttab 😀", "# ---"]


@st.composite
def documents(draw):
    step = draw(st.sampled_from([1, 2, 3, 4]))
    nl = draw(st.sampled_from(["\n", "\r\n"]))
    chance = draw(st.sampled_from([0, 1, 3]))
    out = []

    def maybe(weight=10):
        return draw(st.integers(0, weight)) < chance

    def noise(indent):
        while maybe():
            deep = indent + draw(st.sampled_from([0, 0, 0, step, 1]))
            out.append(draw(st.sampled_from(["", "", "  ", " " * deep + draw(st.sampled_from(COMMENTS))])))

    def tail():
        return draw(st.sampled_from(["", "", "", "  # tail", "\t# tab", " "]))

    def quoted(name):
        return json.dumps(name, ensure_ascii=False) if name == "10" or maybe() else name

    def body(indent, depth):  # noqa: PLR0911 - a table of forms
        kind = draw(
            st.sampled_from(["scalar"] * 3 + ["flow", "list", "literal", "map", "multi", "shared", "long"])
        )
        if kind == "map" and depth < 3:
            return None
        if kind == "flow":
            return [
                draw(
                    st.sampled_from(
                        [
                            "{}",
                            "[]",
                            "[a, 'b' , c]",
                            '{k: 1, "l": [2]}',
                            "[ a,]",
                            f"[a,{nl}  {' ' * indent}b]",
                        ]
                    )
                )
            ]
        if kind == "list":
            dash = " " * (indent + draw(st.sampled_from([0, step])))
            items = draw(
                st.lists(st.sampled_from(["a", "'b'", "c # c", "d"]), min_size=1, max_size=3, unique=True)
            )
            return ["", *[f"{dash}- {item}" for item in items]]
        if kind == "literal":
            pad = " " * (indent + step)
            return [
                draw(st.sampled_from(["|", ">", "|-", "|+", "| # c"])),
                f"{pad}text # not",
                "",
                f"{pad}# neither",
            ]
        if kind == "shared":
            shared = [
                "*d",
                "&own 1",
                "&map {k: 1}",
                "{<<: *d, l: 2}",
                "{<<: *d}",
                f"{nl}{' ' * (indent + step)}<<: *d",
            ]
            merged = f"{nl}{' ' * (indent + step)}<<: *d{nl}{' ' * (indent + step)}l: 2 # l"
            return [draw(st.sampled_from([*shared, merged])) if anchored else "{}"]
        if kind == "long":
            pad = nl + " " * (indent + step)
            inside = draw(
                st.sampled_from(
                    ["k: 1, # one|l: 2 # two|", "k: 1,|# above|l: 2,|", "k: 1|, l: 2|", "|# only|k: 1|"]
                )
            )
            return ["{" + pad + inside.replace("|", pad) + "}" + tail()]
        if kind == "multi":
            return [f"one{nl}{' ' * (indent + 1)}two"]
        return [draw(st.sampled_from(SCALARS)) + tail()]

    def mapping(indent, depth, names):
        for name in names:
            noise(indent)
            lines = body(indent, depth)
            head = " " * indent + quoted(name) + ":"
            if lines is None:
                out.append(head + tail())
                picked = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
                mapping(indent + step, depth + 1, picked)
            else:
                out.append(f"{head} {lines[0]}" if lines[0] else head)
                out.extend(lines[1:])
            if maybe():
                out.append("")

    if maybe():
        out.append("---")
    anchored = draw(st.booleans())
    if anchored:
        out.append(
            draw(st.sampled_from(["defaults: &d {k: 1}", f"defaults: &d # c{nl}    k: 1{nl}    m: 2"]))
        )
    for section in draw(
        st.lists(st.sampled_from(["providers", "projects", "stacks", "other"]), max_size=4, unique=True)
    ):
        noise(0)
        empty = draw(st.integers(0, 9))
        if empty < 2:
            out.append(section + ":" + draw(st.sampled_from([" {}", " ~", "", " null"])) + tail())
        else:
            out.append(section + ":" + tail())
            picked = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
            mapping(step, 1, picked)
    noise(0)
    text = nl.join(line.replace(nl, "\n").replace("\n", nl) for line in out)
    text += nl if draw(st.booleans()) else ""
    return ("\ufeff" if maybe() else "") + text


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=12),
    st.sampled_from(["yes", "010", "0o17", "1e3", "12:30:45", "1_000", "2026-11-22", "${KEY}", " x", "a: b", "a #b", "~"]),
)  # fmt: skip
KEYS = st.one_of(st.sampled_from([*NAMES, "on", "null", "1e3", "- a", "k", "l"]), st.text(max_size=8))
VALUES = st.recursive(
    LEAVES, lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(KEYS, v, max_size=3)), max_leaves=6
)


@st.composite
def edits_for(draw, data):
    section = draw(st.sampled_from(["providers", "projects", "stacks", "fresh", "defaults"]))
    path = [section]
    here = data.get(section)
    while isinstance(here, dict):
        path.append(draw(st.one_of(st.sampled_from([*here, "added"]), st.sampled_from(["added", "k", "l"]))))
        here = here.get(path[-1])
        if draw(st.booleans()):
            break
    if len(path) == 1 and here is None:
        path.append("added")
    if here is not None and draw(st.booleans()):
        return Edit(tuple(path), DELETE)
    if isinstance(here, dict) and draw(st.booleans()):
        kept = {k: v for k, v in here.items() if draw(st.booleans())}
        return Edit(tuple(path), {**kept, **draw(st.dictionaries(KEYS, VALUES, max_size=2))})
    if isinstance(here, list) and draw(st.booleans()):
        return Edit(
            tuple(path), [v for v in here if draw(st.booleans())] + draw(st.lists(VALUES, max_size=2))
        )
    return Edit(tuple(path), draw(VALUES))


RELAXED = settings(max_examples=300, suppress_health_check=list(HealthCheck))


@pytest.mark.unmeasured
@RELAXED
@given(st.data())
def test_edit_means_what_it_says_and_is_undone_byte_for_byte(data):
    text = data.draw(documents())
    try:
        old = parse(text)
    except ConfigInvalid:
        return
    edit = data.draw(edits_for(old.data))
    try:
        new = apply_edits(text, [edit])
    except ConfigInvalid as error:
        allowed = (
            "anchor",
            "merge key",
            "alias",
            "surrogate",
            "block text",
        )
        if not any(reason in error.message for reason in allowed):
            raise
        return
    assert values.same(parse(new).data, apply_to_data(old.data, [edit]))
    if edit.value is not DELETE:
        assert apply_edits(new, [edit]) == new
    (excerpt,) = record_steps([shown(step) for step in apply_steps(parse(text), [edit])], [edit.path])
    try:
        assert restored(new, excerpt) == text
    except Conflict:  # a name that is drawn may be a secret's, which is not kept
        assert excerpt.hidden


@pytest.mark.unmeasured
@RELAXED
@given(st.data())
def test_added_entry_changes_no_other_line_and_its_deletion_restores_the_bytes(data):
    text = data.draw(documents())
    try:
        old = parse(text)
    except ConfigInvalid:
        return
    sections = [
        name for name, value in old.data.items() if name != "defaults" and isinstance(value, dict) and value
    ]
    if not sections:
        return
    path = (data.draw(st.sampled_from(sections)), "brand new")
    try:
        new = apply_edits(text, [Edit(path, data.draw(VALUES))])
    except ConfigInvalid:
        return
    before, after = text.splitlines(keepends=True), new.splitlines(keepends=True)
    assert [line for line in difflib.ndiff(before, after) if line[0] == "-" and "\n" in line] == []
    assert apply_edits(new, [Edit(path, DELETE)]) == text


@pytest.mark.unmeasured
@RELAXED
@given(st.data())
def test_deleted_entry_takes_only_its_lines(data):
    text = data.draw(documents())
    try:
        old = parse(text)
    except ConfigInvalid:
        return
    paths = [(s, n) for s, v in old.data.items() if isinstance(v, dict) and len(v) > 1 for n in v]
    if not paths:
        return
    path = data.draw(st.sampled_from(paths))
    own = entry_text(parse(text), path)
    try:
        new = apply_edits(text, [Edit(path, DELETE)])
    except ConfigInvalid:
        return
    ending = "" if text.endswith("\n") else "\n"
    assert own.strip() not in new or text.count(own.strip()) > 1
    lost = len(text) - len(new) - len(own)
    assert lost >= 0
    assert lost <= len(text) - len("".join(text.split())) + len(ending)
    places = [n for n in range(len(text)) if text.startswith(own, n)]
    assert any("".join((text[:n] + text[n + len(own) :]).split()) == "".join(new.split()) for n in places)


@pytest.mark.unmeasured
@RELAXED
@given(VALUES, st.sampled_from(["", '"', "'"]))
def test_emitted_values_round_trip(value, like):
    style = emit.Style(quotes=dict.fromkeys(NAMES, like))
    try:
        block = "\n".join(emit.entry("k", value, 0, style)) + "\n"
        line = "{k: " + emit.flow(value, style) + "}\n"
    except ConfigInvalid as error:
        if "surrogate" not in error.message:
            raise
        return
    assert values.same(yaml.safe_load(block), {"k": value}), block
    assert values.same(yaml.safe_load(line), {"k": value}), line
    assert values.same(parse(block).data, {"k": value})


def test_edits_of_different_entries_commute():
    text = "providers:\n  a:\n    k: 1\n  b:\n    k: 2\nprojects:\n  x:\n    name: X\n"
    one, two = Edit(("providers", "a"), DELETE), Edit(("projects", "y"), {"name": "Y"})
    assert apply_edits(text, [one, two]) == apply_edits(text, [two, one])


def test_diff():
    assert unified_diff("a\n", "a\n", "f") == ""
    assert unified_diff("a: 1\r\nb: 2\r\n", "a: 1\r\nb: 3", "f") == (
        "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a: 1\n-b: 2\n+b: 3\n\\ No newline at end of file\n"
    )
    long = unified_diff("", "".join(f"line {n}\n" for n in range(5000)), "f")
    assert len(long) < 20_100
    assert "more lines of diff left out" in long


def refused(text, path, value):
    with pytest.raises(ConfigInvalid) as caught:
        apply_edits(text, [Edit(path, value)])
    assert caught.value.code == "CONFIG_INVALID"
    return caught.value.message


def deep():
    value = {}
    for _ in range(5000):
        value = {"k": value}
    return value


@pytest.mark.parametrize(
    ("text", "path", "value", "reason"),
    [
        ("p: {}\n", ("p", "a"), float("nan"), "no plain form"),
        ("p: {}\n", ("p", "a"), float("inf"), "no plain form"),
        ("p: {}\n", ("p", "a"), {1, 2}, "no plain form"),
        ("p: {}\n", ("p", "a"), {5: 1}, "is not a string"),
        ("p: {}\n", ("p", "a"), "\ud800", "surrogate"),
        ("p: {}\n", ("p", "k" * 1001), 1, "more than 1000"),
        ("p: {}\n", ("p", "a"), deep(), "nested too deep"),
        ("p: {}\n", (), {}, "no entry"),
        ("p: 1\rq: 2\r", ("p",), 2, "lone carriage return"),
        ("p: {a}\n", ("p", "a"), 1, "without a value"),
        ("p:\n  ? a\n  : b\n", ("p", "a"), {"k": 1}, "long form"),
        ("p:\n  ? a\n  : k: 1\n", ("p", "a", "k"), DELETE, "one entry to a line"),
        ("p:\n  ? a\n  :\n", ("p", "a"), 1, "long form"),
        ("b: &b {x: 1}\np: *b\n", ("p", "x"), DELETE, "alias"),
        ("b: &b {x: {y: 1}}\np: {<<: *b}\n", ("p", "x", "y"), DELETE, "merge key"),
        ("b: &b {x: 1}\np: {<<: *b, x: 2, y: 3}\n", ("p",), {"y": 3}, "come back through a merge key"),
    ],
)
def test_refused_with_the_reason(text, path, value, reason):
    assert reason in refused(text, path, value)


@pytest.mark.parametrize(
    ("text", "path", "value", "expected"),
    [
        ("p: [b, c]\n", ("p",), ["a", "b", "c"], "p: [a, b, c]\n"),
        ("p: [b, c]\n", ("p",), ["b", "x", "c"], "p: [b, x, c]\n"),
        ("p: [b, c]\n", ("p",), [], "p: []\n"),
        ("p: {a: , b: 1}\n", ("p", "a"), 1, "p: {a: 1 , b: 1}\n"),
        ("p: &x {}\n", ("p", "a"), 1, "p: &x {a: 1}\n"),
        ("p: &x\n  a: 1\nq: 1\n", ("p", "a"), DELETE, "p: &x {}\nq: 1\n"),
        ("p: !!map # c\n  a: 1\n", ("p", "a"), DELETE, "p: !!map {} # c\n"),
        ("p: &x # c\n  a: 1\nq: 1\n", ("p",), [1], "p: # c\n  - 1\nq: 1\n"),
        ("p: &x {a: 1}\n", ("p", "a"), DELETE, "p: &x {}\n"),
        ("p: !!map\n  {a: 1}\n", ("p", "b"), 2, "p: !!map\n  {a: 1, b: 2}\n"),
        ("p: {? a : 1, ? b : 2}\n", ("p", "a"), DELETE, "p: {? b : 2}\n"),
        ("p: {a: 1, b: 2, c: 3}\n", ("p",), {"a": 1, "d": 4}, "p: {a: 1, d: 4}\n"),
        ("a: 1\n", ("a",), DELETE, ""),
        ("a: 1\n", ("b",), (1, {"x": [], "y": [[1], [2]]}), 'a: 1\nb:\n  - 1\n  - x: []\n    "y":\n      - [1]\n      - [2]\n'),
        ("a: 1", ("b",), {}, "a: 1\nb: {}"),
        ("a: !!str 5\n", ("a",), 6, "a: 6\n"),

    ],
)  # fmt: skip
def test_odd_layouts(text, path, value, expected):
    assert apply_edits(text, [Edit(path, value)]) == expected


def test_entry_text():
    text = "# head\na:\n  # of b\n  b: 1\n\n  c: {d: 1, e: 2}"
    assert entry_text(parse(text), ()) == text
    assert entry_text(parse(text), ("a", "b")) == "  # of b\n  b: 1\n"
    assert entry_text(parse(text), ("a", "c")) == "  c: {d: 1, e: 2}"
    assert entry_text(parse(text), ("a", "c", "e")) == "e: 2"
    assert entry_text(parse(text), ("a", "x")) is None
    assert entry_text(parse(text), ("a", "b", "x")) is None


BEFORE = "p:\n  # first\n  a:\n    k: 1\n\n  # second\n  b:\n    k: 2  # two\n\n  c: {x: 1, y: 2}\n"


@pytest.mark.parametrize(
    "path", [("p", "a"), ("p", "b"), ("p", "c"), ("p", "b", "k"), ("p", "c", "x"), ("p",)]
)
def test_undo_of_a_delete_puts_the_bytes_back_although_others_edited_since(path):
    edit = Edit(path, DELETE)
    excerpt = record_steps(apply_steps(parse(BEFORE), [edit]), [edit.path])[0]
    after = apply_edits(BEFORE, [edit])
    theirs = Edit(("other",), {"x": 1})
    assert restored(apply_edits(after, [theirs]), excerpt) in (
        apply_edits(BEFORE, [theirs]),
        "other:\n  x: 1\n" + BEFORE,
        BEFORE + "other:\n  x: 1\n",
    )


@pytest.mark.parametrize("before", ["", "  z: 1\n\n"])
def test_undo_of_a_change_of_the_last_line_leaves_no_blank_line_that_was_inside(before):
    text = f"providers:\n{before}  a:\n    b: 1\n\n    c: 1\n  d: 1\n"
    edit = Edit(("providers", "a"), {"b": 1})
    steps = apply_steps(parse(text), [edit])
    assert "b: 1\n\n  d: 1\n" in steps[1].text
    assert restored(steps[1].text, record_steps(steps, [edit.path])[0]) == text


def test_undo_falls_back_to_the_value_where_the_place_is_gone():
    edits = [Edit(("p", "b"), DELETE)]
    excerpt = record_steps(apply_steps(parse(BEFORE), edits), [edit.path for edit in edits])[0]
    assert parse(restored("p: {}\n", excerpt)).data == {"p": {"b": {"k": 2}}}
    assert parse(restored("q: 1\n", excerpt)).data == {"q": 1, "p": {"b": {"k": 2}}}
    assert parse(restored("p: {z: 1}\n", excerpt)).data == {"p": {"z": 1, "b": {"k": 2}}}
    assert "  # second\n  b:\n    k: 2  # two\n" in restored("p:\n  z: 1\n", excerpt)


def test_undo_of_an_add_into_a_section_others_use_now_removes_only_the_entry():
    edit = Edit(("p", "a"), {"k": 1})
    excerpt = record_steps(apply_steps(parse("p:  # none\n"), [edit]), [edit.path])[0]
    after = apply_edits("p:  # none\n", [edit, Edit(("p", "z"), 1)])
    assert restored(after, excerpt) == "p:  # none\n  z: 1\n"


def test_number_too_long_to_write_is_refused():
    with pytest.raises(ConfigInvalid, match="no plain form"):
        emit.scalar(10**5000)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, float("nan"), "", "1", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200)
@given(JSON, JSON, st.booleans())
def test_two_values_are_the_same_when_json_writes_them_alike(left, right, again):
    if again:
        right = json.loads(json.dumps(left))
    alike = json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    assert values.same(left, right) is alike


NO_END = "\n\\ No newline at end of file"


def restored(text, excerpt):
    """The text with the entry as it was."""
    return apply_steps(parse(text), [excerpt])[-1].text


def patched(old, diff):
    """Apply a unified diff as patch(1) does: each hunk where it says, on lines that are what it says."""
    *lines, rest = old.replace("\r", "").split("\n")
    lines += [rest + NO_END] if rest else []
    head, *hunks = re.split(r"(?m)^@@ -(.*) \+(.*) @@\n", diff)
    assert head == "--- a/x\n+++ b/x\n" * bool(diff)
    shift = 0
    for removed, added, text in zip(hunks[0::3], hunks[1::3], hunks[2::3], strict=True):
        found = re.findall(r"(?m)^([ +-])(.*(?:\n\\.*)?)$", text)
        was, now = ([line for sign, line in found if sign != other] for other in "+-")
        (at, count), (begin, new_count) = (
            (int(start), int(number or 1))
            for start, _, number in (side.partition(",") for side in (removed, added))
        )
        at, begin = at - (count > 0) + shift, begin - (new_count > 0)
        assert (at, count, new_count) == (begin, len(was), len(now))
        assert lines[at : at + count] == was
        lines[at : at + count] = now
        shift += new_count - count
    return "".join(line + "\n" for line in lines).replace(NO_END + "\n", "")


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(["a", "b", "", "c\r", "d: 1", "  d: 1"]), max_size=12),
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["a", "", "z", "z\r"])), max_size=4),
    st.sampled_from([1, 30]),
    st.booleans(),
)
def test_a_diff_leads_from_the_old_text_to_the_new_one(lines, inserted, times, ended):
    old = lines * times
    new = list(old)
    for place, line in inserted:
        new[place : place + (line == "z")] = [line]
    before, after = "\n".join(old) + "\n" * ended, "\n".join(new)
    diff = unified_diff(before, after, "x")
    assert patched(before, diff) == after.replace("\r", "")
    assert bool(diff) is (before != after)


@pytest.mark.parametrize(("number", "form"), [(0, "{a: 1}"), (150, "{a: 1}"), (299, "a: 1")])
def test_entry_of_a_long_section_is_written_like_those_next_to_it(number, form):
    entries = [f"  p{n}: {{a: 1}}\n" if n < 200 else f"  p{n}:\n    a: 1\n" for n in range(300)]
    entries[number] = f"  p{number}: 5\n"
    text = apply_edits("p:\n" + "".join(entries), [Edit(("p", f"p{number}"), {"a": 1})])
    gap = " " if form.startswith("{") else "\n    "
    entries[number] = f"  p{number}:{gap}{form}\n"
    assert text == "p:\n" + "".join(entries)
