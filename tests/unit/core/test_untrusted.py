import pytest
from hypothesis import given, strategies as st

from voicegw_mcp.core.untrusted import escape_untrusted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ascii", "plain ascii"),
        ("Zürich 東京 ⚠️ a\u3000b\xa0c", "Zürich 東京 ⚠️ a\u3000b\xa0c"),
        ("a\nb\tc\x1b[31m\x7f\x00", r"a\nb\tc\x1b[31m\x7f\x00"),
        ("\u202eevil\u202c \u2066x\u2069", r"\u202eevil\u202c \u2066x\u2069"),
        ("a\u200bb\u200dc\ufeff\u00ad\u2060", r"a\u200bb\u200dc\ufeff\xad\u2060"),
        ("\U000e0041\U000e007f", r"\U000e0041\U000e007f"),
        ("\ufe00\U000e0100\u3164\u115f\u2800", r"\ufe00\U000e0100\u3164\u115f\u2800"),
        ("\u2028\u2029\x85\ud800\ue000", r"\u2028\u2029\x85\ud800\ue000"),
    ],
)
def test_what_hides_is_shown_and_what_shows_is_kept(text, shown):
    assert escape_untrusted(text, 200) == shown


@given(st.text(), st.integers(1, 40))
def test_the_result_is_printable_and_within_its_limit(text, limit):
    shown = escape_untrusted(text, limit)
    assert len(shown) <= limit
    assert "\n" not in shown
    assert escape_untrusted(shown, limit) == shown


def test_cut_text_ends_in_an_ellipsis_and_never_inside_an_escape():
    assert escape_untrusted("a" * 11, 10) == "a" * 9 + "…"
    assert escape_untrusted("abc\u202e" * 5, 10) == r"abc\u202e…"
    assert escape_untrusted("\u202e\u202e", 6) == "…"
    assert escape_untrusted("a" * 10, 10) == "a" * 10
