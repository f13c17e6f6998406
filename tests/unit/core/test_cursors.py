import base64

import pytest
from hypothesis import given, strategies as st

from voicegw_mcp.core.cursors import decode_cursor, encode_cursor
from voicegw_mcp.errors import InvalidInput

QUERY = {"project": "p", "order": "newest", "limit": None}


@given(st.lists(st.integers() | st.text(), max_size=4))
def test_a_position_comes_back_for_the_same_query(position):
    token = encode_cursor(QUERY, position)
    assert token.isascii()
    assert "=" not in token
    assert decode_cursor(token, dict(reversed(QUERY.items()))) == position


def test_a_cursor_of_another_query_is_refused():
    with pytest.raises(InvalidInput, match="another query") as caught:
        decode_cursor(encode_cursor(QUERY, [1]), {**QUERY, "project": "other"})
    assert caught.value.details["field"] == "cursor"


def made_up(text):
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "not base64!",
        "ß",
        "A" * 5000,
        made_up("{}"),
        made_up("[]"),
        made_up("7"),
        made_up("[" * 900),
        "\ud800",
    ],
)
def test_garbage_is_refused(token):
    with pytest.raises(InvalidInput) as caught:
        decode_cursor(token, QUERY)
    assert caught.value.details["field"] == "cursor"


def test_a_position_of_other_things_than_text_and_integers_is_refused():
    for odd in (None, 1.5, True, [1]):
        with pytest.raises(InvalidInput, match="not one this server made"):
            decode_cursor(encode_cursor(QUERY, [odd]), QUERY)
