"""What --fail-if can say, and that nothing else is read as anything."""

import json

import pytest
from hypothesis import example, given, strategies as st

from voicegw_mcp.cli.conditions import MAX_DEPTH, MAX_LENGTH, parse_condition
from voicegw_mcp.errors import InvalidInput

ANSWER = {
    "total_usd": 12.5,
    "requests": 3,
    "status": "ok",
    "truncated": False,
    "nothing": None,
    "by_model": {"openai/gpt-4.1-mini": {"cost": 2.0}, "support-line": {"cost": 1}, 'a"b': {"cost": 7}},
    "groups": [{"key": "a"}, {"key": "b"}],
    "and": {"len": 4, "true": 5},
}
JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PIECES = st.lists(
    st.sampled_from(
        [
            "total_usd",
            "by_model",
            "groups",
            "[0]",
            "[9]",
            "['a']",
            '["key"]',
            ".key",
            ".",
            "(",
            ")",
            "[",
            "]",
            "and",
            "or",
            "not",
            "len",
            "len(",
            "==",
            "!=",
            "<",
            "<=",
            ">",
            ">=",
            "=",
            "true",
            "false",
            "null",
            "1",
            "-2.5",
            "1e9",
            "1e999",
            "007",
            "'x'",
            '"y"',
            '"\\u0041"',
            '"\\q"',
            "'",
            '"',
            "\\",
            "\n",
            "é",
            "-",
            "+",
            "*",
            "__class__",
            "import",
        ]
    ),
    max_size=25,
).flatmap(lambda parts: st.sampled_from(["", " "]).map(lambda joint: joint.join(parts)))


def holds(text, answer=ANSWER):
    return parse_condition(text).check(answer)[0]


def refused(text, answer=ANSWER):
    with pytest.raises(InvalidInput) as caught:
        parse_condition(text).check(answer)
    assert caught.value.details["field"] == "fail_if"
    assert caught.value.exit_code == 2
    assert caught.value.message.isprintable()
    assert caught.value.hint
    return f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("total_usd > 10", True),
        ("total_usd>10", True),
        ("total_usd > 12.5", False),
        ("total_usd >= 1.25e1", True),
        ("10 < total_usd", True),
        ("total_usd <= -1", False),
        ("requests != 3", False),
        ("requests == 3.0", True),
        ("status != 'ok'", False),
        ('status == "\\u006fk"', True),
        ("status < 'p'", True),
        ("truncated", False),
        ("not truncated", True),
        ("not not truncated", False),
        ("truncated == false", True),
        ("nothing == null", True),
        ("requests == null", False),
        ("requests != null", True),
        ("truncated == 0", False),
        ("status == 3", False),
        ("by_model.support-line.cost == 1", True),
        ("by_model['openai/gpt-4.1-mini'].cost > 1", True),
        ('by_model["a\\"b"].cost == 7', True),
        ("groups[1].key == 'b'", True),
        ('groups[1]["key"] == "b"', True),
        ("len(groups) == 2 and len(by_model) == 3 and len(status) == 2", True),
        ("and.len == 4", True),
        ("and.true == 5", True),
        ("true or false and false", True),
        ("(true or false) and false", False),
        ("not truncated and total_usd > 10", True),
        ("not (truncated or total_usd > 10)", False),
        ("total_usd > requests", True),
        ("\n total_usd\t> 10 ", True),
        ("(total_usd > 10) == true", True),
    ],
)
def test_a_condition_holds_as_it_reads(text, expected):
    assert holds(text) is expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("totl_usd > 10", "total_usd"),
        ("by_model.nope.cost > 1", "support-line"),
        ("groups[2].key == 'a'", "a list there has no 2"),
        ("groups.key == 'a'", "a list there has no 'key'"),
        ("by_model[0] == 1", "an object there has no 0"),
        ("status[0] == 'o'", "a text there has no 0"),
        ("nothing.more == 1", "null there has no 'more'"),
    ],
)
def test_a_path_that_is_not_there_is_an_error_and_never_false(text, told):
    assert told in refused(text)
    assert told in refused(f"not ({text})")


@pytest.mark.parametrize(
    "text",
    ["truncated and totl_usd > 1", "status == 'ok' or totl_usd > 1"],
)
def test_what_is_decided_already_is_not_looked_at(text):
    assert holds(text) is text.startswith("status")
    assert list(parse_condition(text).check(ANSWER)[1]) == [text.split()[0]]


@pytest.mark.parametrize(
    "text",
    [
        "total_usd",
        "status",
        "not status",
        "truncated or requests",
        "requests and truncated",
        "total_usd > '10'",
        "status > 1",
        "truncated < true",
        "nothing > 1",
        "groups == groups",
        "by_model == null",
        "len(requests) > 1",
        "len(nothing) > 1",
    ],
)
def test_values_of_kinds_that_do_not_compare_are_an_error(text):
    assert refused(text)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_none_passes_no_check(number):
    assert "no number" in refused("total_usd > 10", {"total_usd": number})
    assert "no number" in refused("total_usd == 10", {"total_usd": number})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "ends too early"),
        ("total_usd >", "ends too early"),
        ("(total_usd > 1", "ends too early"),
        ("1 < 2 < 3", "unexpected '<' (character 7)"),
        ("total_usd = 1", "from '= 1' on"),
        ("total_usd > 1; true", "from '; true' on"),
        ("total_usd + 1 > 2", "from '+ 1 > 2' on"),
        ("total_usd > 1 true", "unexpected 'true'"),
        ("and", "unexpected 'and'"),
        ("not", "ends too early"),
        ("len()", "unexpected ')'"),
        ("len(1) > 1", "unexpected '1'"),
        ("max(groups) > 1", "unexpected '('"),
        ("groups[-1].key == 'a'", 'from "[-1].key'),
        ("groups [0] == 1", "unexpected '[0]'"),
        ("007 == 7", "007"),
        ("1e999 > 1", "1e999"),
        ('"\\q" == 1', "no number or text"),
        ("'open", 'from "\'open" on'),
        ("total_usd > 1" + " " * MAX_LENGTH, f"at most {MAX_LENGTH}"),
        ("(" * (MAX_DEPTH + 1) + "true" + ")" * (MAX_DEPTH + 1), f"deeper than {MAX_DEPTH}"),
    ],
)
def test_what_is_no_condition_is_refused_with_its_place(text, told):
    assert told in refused(text)


def test_nesting_and_length_up_to_the_bounds_are_read():
    assert holds("(" * MAX_DEPTH + "true" + ")" * MAX_DEPTH)
    assert holds("not " * 200 + "true")
    assert holds(" and ".join(["true"] * 110))


def test_the_values_of_the_paths_are_told():
    condition = parse_condition("total_usd > 10 and len(groups) == 2 and 1 < requests")
    assert condition.check(ANSWER) == (True, {"total_usd": 12.5, "len(groups)": 2, "requests": 3})


@given(text=st.text(max_size=60) | PIECES, answer=JSON_LIKE | st.just(ANSWER))
@example(text="[" * 500, answer={})
@example(text="not " * 249 + "true", answer={})
@example(text='"' + "\\" * 900, answer={})
@example(text="9" * 999 + " == 1", answer={})
def test_any_text_on_any_answer_is_true_false_or_invalid_input(text, answer):
    try:
        found, seen = parse_condition(text).check(answer)
    except InvalidInput:
        return
    assert isinstance(found, bool)
    assert all(isinstance(name, str) for name in seen)


@given(answer=st.dictionaries(st.text(max_size=8), st.integers(), min_size=1, max_size=4), data=st.data())
def test_every_key_can_be_named_and_compared(answer, data):
    key = data.draw(st.sampled_from(sorted(answer)))
    other = data.draw(st.integers())
    path = f"[{json.dumps(key)}]"
    assert holds(f"{path} == {answer[key]}", answer)
    assert holds(f"{path} < {other}", answer) is (answer[key] < other)
