"""What voicegw.yaml means, and how a broken one is described."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings, strategies as st

from voicegw_mcp.config import nodes, parse as parsing
from voicegw_mcp.config.parse import Mark, Problem, decode, invalid, parse
from voicegw_mcp.errors import ConfigInvalid

INPUTS = [
    path.read_text("utf-8").split("<<<<<< input\n")[1].split("======")[0]
    for path in sorted((Path(__file__).parents[2] / "config_cases").rglob("*.case"))
]
ODD = [
    "a: &a {x: 1, y: [1, 2]}\nb: *a\nc: {<<: *a, y: 2}\nd: {<<: [*a, {z: 1}], x: 9}\n",
    "&k k: 1\nx:\n  *k : 2\ny: &l [*k, *k]\nz: *l\n",
    "&m <<: {a: 1}\nx: {*m : {b: 2}}\n",
    "!!merge foo: {a: 1}\n<<: {b: 2}\n",
    "<<: !!str {a: 1}\nx: 1\n",
    "a: !!int 5\nb: !!float 5\nc: !!str 5\nd: !!null x\ne: !!bool yes\nf: !!timestamp 2026-01-01\n",
    "a: ! 5\nb: ! '5'\nc: ! [1]\nd: ! {a: yes}\ne: !!map {a: 1}\nf: !!seq [~]\n",
    "a: 1_0.5\nb: 1:30.5\nc: -1:30\nd: +0x1F\ne: 0b_1\nf: 1e5\ng: -.inf\nh: .5\ni: 017\nj: 09\n",
    "a: 2026-11-22T01:02:03.123456789+05:30\nb: 2026-1-2 3:4:5\nc: 2026-01-02 13:04:05 Z\nd: 2026-01-02\n",
    "a: &x !!str\nb: *x\nc: &e\nd: *e\ne: ''\nf: \"null\"\ng: null\nh: |\n  12\ni: ~\n",
]
BITS = [
    *(
        "&a ",
        "*a",
        "<<: *a",
        "!!str ",
        "!!int ",
        "! ",
        "'",
        '"',
        "{",
        "}",
        "[",
        "]",
        ": ",
        "- ",
        "? ",
        "#",
        " ",
        "\n",
    ),
    *(
        "|\n",
        ">-\n",
        "~",
        "yes",
        "0x1f",
        "1:30",
        "1.5e+3",
        ".nan",
        "2026-01-02",
        "on",
        "=",
        "<<",
        "---\n",
        "...\n",
    ),
    *("\ufeff", "é", "😀", "<<: {q: 1}\n", "b: &a {x: 1}\n", "\r\n", ", ", "!!map ", "!!null ", "<<: [*a]\n"),
]


def mutated(text, seed):
    """The text with a few places changed, mostly where a value begins."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    for _ in range(chance.randint(1, 3)):
        values = [index for index in range(2, len(text)) if text[index - 2 : index] == ": "]
        place = chance.choice(values if values and chance.random() < 0.6 else range(len(text) + 1))
        gone = chance.choice([0, 0, 0, 1, 5])
        text = text[:place] + chance.choice(BITS) * (gone < 5) + text[place + gone :]
    return text


def shape(value, seen):
    """Types, values, order and what is one object."""
    if not isinstance(value, dict | list):
        return type(value), repr(value)
    if id(value) in seen:
        return seen[id(value)]
    seen[id(value)] = len(seen)
    if isinstance(value, list):
        return [shape(item, seen) for item in value]
    return [(key, shape(item, seen)) for key, item in value.items()]


def places(node, composed, shift=0):
    """Every node with the one PyYAML composed: kind, tag, text and place must be the same."""
    kind = {"mapping": "map", "sequence": "seq"}.get(composed.id, "scalar")
    begin, end = composed.start_mark, composed.end_mark
    if node.kind == "alias":
        node = node.target
    assert (node.kind, node.tag, node.start, node.line, node.column) == (
        kind, composed.tag, begin.index + shift, begin.line, begin.column,
    )  # fmt: skip
    if kind == "scalar":
        assert (node.name, node.style, node.end) == (composed.value, composed.style, end.index + shift)
    elif kind == "seq":
        for (item, _), inner in zip(node.items, composed.value, strict=True):
            places(item, inner, shift)
    else:
        for item, inner in zip(node.items, composed.value, strict=True):
            places(item[0], inner[0], shift)
            places(item[1], inner[1], shift)


def parsed_like_pyyaml(text, loader):
    """Whether the text parses; if so it means what PyYAML's loader says, and stands where PyYAML's composer says."""
    try:
        file = parse(text)
    except ConfigInvalid:
        return False
    bare = text.removeprefix("\ufeff")
    try:
        wanted = yaml.load(bare, loader)  # noqa: S506 - a safe loader
    except yaml.composer.ComposerError as error:
        # An anchor may be given anew (YAML 1.2.2, 7.1); PyYAML does not know that.
        assert "duplicate anchor" in str(error)  # noqa: PT017 - that it may raise at all is the exception
        return True
    assert shape(file.data, {}) == shape(wanted if file.tree.root else {}, {})
    if file.tree.root is not None:
        places(file.tree.root, yaml.compose(bare, loader), len(text) - len(bare))
    return True


def test_an_anchor_that_is_given_anew_means_the_node_before_the_alias():
    assert parse("a: &x 1\nb: *x\nc: &x 2\nd: *x\n").data == {"a": 1, "b": 1, "c": 2, "d": 2}


@pytest.mark.unmeasured
@pytest.mark.parametrize("loader", [parsing.Loader, yaml.SafeLoader])
def test_data_and_places_are_those_of_pyyaml(loader, monkeypatch):
    monkeypatch.setattr(parsing, "Loader", loader)
    for text in ODD:
        assert parsed_like_pyyaml(text, loader), text
    texts = [mutated(text, seed) for seed in range(60) for text in ODD]
    texts += [text for source in INPUTS for text in (source, mutated(source, 0))]
    assert sum(parsed_like_pyyaml(text, loader) for text in texts) > len(texts) // 4


@settings(max_examples=200)
@given(st.sampled_from([*ODD, *INPUTS]), st.integers(0))
def test_mutated_text_means_what_pyyaml_says(text, seed):
    parsed_like_pyyaml(mutated(text, seed), parsing.Loader)


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from("0123456789_:.+-eExXbTZ ~<=ynofatrulsIN"), max_size=30))
def test_plain_scalar_means_what_pyyaml_says(word):
    parsed_like_pyyaml(
        f"a: {word}\nb: {word}\n", parsing.Loader
    )  # the second one is remembered from the first


def problems(text):
    with pytest.raises(ConfigInvalid) as caught:
        parse(text)
    return caught.value.details["problems"]


@pytest.mark.parametrize("text", ["", "# only\n", "---\n", "---\n...\n", "\ufeff", "\n\n", "\ufeff# c"])
def test_file_without_content_is_an_empty_mapping(text):
    assert parse(text).data == {}
    assert parse(text).mark(("providers",)) == Mark(1, 1)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("- a\n", "a list"), ("word\n", "a single value"), ("~\n", "a single value"), ("5", "a single value")],
)
def test_root_must_be_a_mapping(text, kind):
    assert kind in problems(text)[0]["message"]


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("loader", [parsing.Loader, yaml.SafeLoader])
def test_marks(bom, loader, monkeypatch):
    monkeypatch.setattr(parsing, "Loader", loader)
    text = bom + "a: 1\nb:\n  c: [x, {y: 1}]\n  d:\n  - 1\n  - k: v\ne: &e {f: 1}\ng: *e\nh: {<<: *e}\n"
    file = parse(text)
    assert file.data["g"] == {"f": 1}
    assert file.data["h"] == {"f": 1}
    marks = {
        ("a",): (1, 1), ("a", "x"): (1, 1), ("b", "c"): (3, 3), ("b", "c", 1): (3, 10), ("b", "c", 1, "y"): (3, 11),
        ("b", "c", 9): (3, 3), ("b", "d", 1, "k"): (6, 5), ("g", "f"): (7, 8), ("z",): (1, 1), ("b", "z"): (2, 1),
        ("b", 0): (2, 1), ("h", "f"): (9, 1), (): (1, 1),
    }  # fmt: skip
    for path, (line, column) in marks.items():
        assert file.mark(path) == Mark(line, column), path


@pytest.mark.parametrize(
    ("text", "message", "line", "column"),
    [
        ("a: 1\nb: 2\na: 3\n", "the first is in line 1", 3, 1),
        ("a:\n  b: {c: 1, c: 2}\n", "'c' is there twice", 2, 13),
        ("a: {<<: {x: 1}, <<: {x: 2}}\n", "'<<' is there twice", 1, 17),
        ("1: a\n", "the key 1 is not a string", 1, 1),
        ("on: a\n", "the key on is not a string", 1, 1),
        ("~: a\n", "the key ~ is not a string", 1, 1),
        ("? [a]\n: b\n", "the key is not a string", 1, 3),
        ("a: !!python/object:os.system x\n", "the tag !!python/object:os.system is not accepted", 1, 4),
        ("a: !mine x\n", "the tag !mine is not accepted", 1, 4),
        ("a: !!binary aGk=\n", "the tag !!binary", 1, 4),
        ("a: [b, !!set {c}]\n", "the tag !!set", 1, 8),
        ("a: =\n", "the tag !!value", 1, 4),
        ("a: <<\n", "the tag !!merge", 1, 4),
        ("a: 1\n---\nb: 2\n", "more than one YAML document", 2, 1),
        ("a:\n\tb: 1\n", "a tab is used for indentation", 2, 1),
        ("a:\n  b: 1\n \tc: 1\n", "a tab is used for indentation", 3, 2),
        ("a: [1, 2\nb: 3\n", "that starts in line 1", 2, 2),
        ("a: 'x\n", "quoted scalar", 2, 1),
        ("a: {k: ${X}}\n", "did not find", 1, 9),
        ("a: @x\n", "cannot start any token", 1, 4),
        ("a: *nope\n", "the alias *nope has no anchor", 1, 4),
        ("a: &a [*a]\n", "stands inside the entry it repeats", 1, 8),
        ("a: x\x07\n", "U+0007 is not allowed", 1, 5),
        ("a: 1\nb: \ud800\n", "U+D800 is not allowed", 2, 4),
        ("a: b: c\n", "mapping values are not allowed", 1, 5),
        ("a: !!int abc\n", "abc is not a valid int", 1, 4),
        ("a: 2026-99-99\n", "2026-99-99 is not a valid timestamp", 1, 4),
        ("a: !!bool maybe\nb: !!float x\n", "maybe is not a valid bool", 1, 4),
        ("a: {<<: 5}\n", "expected a mapping", 1, 9),
        ("a: !!str [x]\n", "expected a scalar node", 1, 4),
        ("a: " + "[" * 70 + "]" * 70, "nested deeper than 64", 1, 67),
        ("a: " + "[" * 100_000, "nested deeper than 64", 1, 67),
    ],
)  # fmt: skip
def test_problem_names_place_and_reason(text, message, line, column):
    found = problems(text)[0]
    assert message in found["message"]
    assert (found["line"], found["column"]) == (line, column)


def test_reference_in_braces_gets_a_hint():
    assert "in quotes" in problems("a: {k: ${X}}\n")[0]["hint"]


def test_all_problems_are_reported_with_their_paths():
    found = problems(
        "a: {b: 1, b: 2}\nc:\n- 5: x\n- !x y\n1: 2\nd: {? {x: 1} : {y: !z 1}}\nk: &k v\n? *k\n: 1\n"
    )
    assert [p["path"] for p in found] == ["a.b", "c.0.5", "c.1", "1", "d.?", "d.?.y"]


def test_many_keys_that_are_there_twice_are_found_in_one_pass():
    keys = "".join(f"k{n}: {n}\n" for n in range(3000))
    found = problems(keys + keys)
    assert [p["line"] for p in found] == [*range(3001, 6001)]
    assert "'k7' is there twice; the first is in line 8" in found[7]["message"]


def test_problem_of_values_are_all_found():
    assert len(problems("a: !!bool maybe\nb: !!float x\nc: {<<: {d: !!int z}}\n")) == 3


def test_billion_laughs_is_refused_and_ordinary_aliases_are_not():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "expand to more than" in problems("\n".join(lines))[0]["message"]
    assert parse("\n".join(lines[:3])).data["a2"][9][9][9] == "x"


def test_aliases_cannot_nest_deeper_than_the_bound():
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 80))]
    assert "through *a" in problems("\n".join(lines))[0]["message"]


def test_merge_keys_may_be_overridden():
    text = "base: &b {x: 1, y: 2}\nz: {<<: *b, x: 3}\nq: {<<: [*b, {k: 1}]}\n"
    assert parse(text).data["z"] == {"x": 3, "y": 2}
    node = parse(text).tree.root.items[2][1]
    assert node.merges("k")
    assert node.merges("x")
    assert not node.merges("nothing")


def test_decode():
    assert decode("a: ü\r\n".encode()) == "a: ü\r\n"
    assert decode("\ufeffa: 1".encode()) == "\ufeffa: 1"


@pytest.mark.parametrize(
    ("raw", "message", "line", "column"),
    [
        ("a: 1".encode("utf-16"), "UTF-16", 1, 1),
        ("a: 1".encode("utf-16-be"), "zero bytes", 1, 1),
        (b"a: 1\nb\0", "zero bytes", 2, 1),
        (b"a: 1\n\xc3\xbcb: \xff\n", "0xff is not valid UTF-8", 2, 5),
        (b"#" * (parsing.MAX_BYTES + 1), "bytes; at most", 1, 1),
    ],
)
def test_decode_refuses(raw, message, line, column):
    with pytest.raises(ConfigInvalid) as caught:
        decode(raw)
    found = caught.value.details["problems"][0]
    assert message in found["message"]
    assert (found["line"], found["column"]) == (line, column)


def test_text_too_long():
    assert "characters" in problems("#" * (parsing.MAX_BYTES + 1))[0]["message"]


def test_invalid_makes_one_error_of_many_problems():
    error = invalid([Problem("a.b", 2, 3, "is wrong", "Fix it."), Problem("", 4, 5, "too")])
    assert error.message == "voicegw.yaml:2:3: a.b: is wrong (and 1 more)."
    assert error.hint == "Fix it."
    assert error.details["problems"][1] == {"path": "", "line": 4, "column": 5, "message": "too", "hint": ""}


def test_string_looks_are_kept():
    data = parse("a: 'yes'\nb: 'no'\nc: yes\nd: 010\ne: 12:30:45\nf: 2026-11-22\n").data
    assert (data["a"], data["b"], data["c"], data["d"], data["e"]) == ("yes", "no", True, 8, 45045)


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}\n &*!|>'\"#?,\t\r%@1~<"), max_size=40))
def test_any_text_parses_like_pyyaml_or_is_a_typed_error(text):
    try:
        file = parse(text)
    except ConfigInvalid as error:
        for found in error.details["problems"]:
            assert found["line"] >= 1
            assert found["column"] >= 1
        return
    assert file.data == (yaml.load(text, parsing.Loader) or {})  # noqa: S506 - a safe loader
    assert file.tree.root is None or isinstance(file.tree.root, nodes.Node)


class Looks:
    """A key that counts how often it is compared."""

    def __init__(self):
        self.count = 0

    def wrap(self, text):
        looks = self

        class Key(str):
            __slots__ = ()
            __hash__ = str.__hash__

            def __eq__(self, other):
                looks.count += 1
                return str.__eq__(self, other)

        return Key(text)


@pytest.mark.parametrize("number", [3, 16, 17, 2_000])
def test_a_key_is_found_in_a_mapping_of_any_size(number):
    text = "base: &b {shared: 1, k0: 9}\nmap:\n  <<: *b\n" + "".join(f"  k{n}: {n}\n" for n in range(number))
    node = parse(text).tree.root.items[1][1]
    assert [node.find(f"k{n}") for n in range(number)] == list(range(1, number + 1))
    assert (node.find("<<"), node.find("shared"), node.find("none")) == (None, None, None)
    assert (node.merges("k0"), node.merges("shared"), node.merges("k1")) == (True, True, False)


def test_an_ordinary_key_that_looks_like_a_merge_is_found_and_an_alias_is_found_by_its_text():
    text = "a: &x name\nmap:\n  '<<': 1\n  *x : 2\n" + "".join(f"  k{n}: {n}\n" for n in range(20))
    node = parse(text).tree.root.items[1][1]
    assert (node.find("<<"), node.find("name"), node.find("k0")) == (0, 1, 2)


def test_looking_up_every_key_of_a_large_mapping_compares_each_about_once():
    number, looks = 3_000, Looks()
    tree = parse("".join(f"k{n}: 1\n" for n in range(number))).tree
    assert all(tree.root.find(looks.wrap(f"k{n}")) == n for n in range(number))
    assert looks.count < 4 * number
