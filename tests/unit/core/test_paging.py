from dataclasses import dataclass

import pytest

from voicegw_mcp.core.answer_size import MOST_BYTES
from voicegw_mcp.core.answers import Answer
from voicegw_mcp.core.paging import fit_page, slice_of
from voicegw_mcp.errors import InvalidInput

QUERY = {"tool": "list_things"}


@dataclass
class Thing:
    id: str


class View(Answer):
    id: str
    text: str = ""


def things(*ids):
    return [Thing(each) for each in ids]


def cursor_after(last, more=True):
    return fit_page([View(id=last)], QUERY, id_of=lambda view: view.id, more=more)[1]


def test_a_page_is_in_the_order_of_ids_and_says_whether_more_follow():
    page = slice_of(things("c", "a", "b"), QUERY, limit=2, cursor=None)
    assert ([entry.id for entry in page.entries], page.more) == (["a", "b"], True)
    page = slice_of(things("c", "a", "b"), QUERY, limit=3, cursor=None)
    assert page.more is False


def test_a_cursor_goes_on_behind_its_id_even_when_that_is_gone():
    page = slice_of(things("a", "bb", "c"), QUERY, limit=5, cursor=cursor_after("b"))
    assert [entry.id for entry in page.entries] == ["bb", "c"]
    assert slice_of(things("a"), QUERY, limit=5, cursor=cursor_after("z")).entries == []


def test_the_last_page_has_no_cursor():
    assert cursor_after("a", more=False) is None
    assert fit_page([], QUERY, id_of=lambda view: view.id, more=False) == ([], None)


def test_a_page_is_cut_to_the_byte_budget_but_has_at_least_one_entry():
    views = [View(id=str(n), text="ä" * 1_000) for n in range(100)]
    kept, cursor = fit_page(views, QUERY, id_of=lambda view: view.id, more=False)
    assert 10 < len(kept) < 17
    assert cursor is not None
    huge = [View(id="a", text="x" * 2 * MOST_BYTES), View(id="b")]
    kept, cursor = fit_page(huge, QUERY, id_of=lambda view: view.id, more=False)
    assert [view.id for view in kept] == ["a"]
    assert cursor is not None


def test_a_cursor_of_another_query_is_refused():
    with pytest.raises(InvalidInput, match="another query"):
        slice_of(things("a"), {"tool": "other"}, limit=1, cursor=cursor_after("a"))
