"""Pages of configured entries by keyset cursor, cut to a byte budget. May import ``core`` and ``errors``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from voicegw_mcp.core.answer_size import MOST_BYTES, fitting_values
from voicegw_mcp.core.cursors import decode_cursor, encode_cursor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from voicegw_mcp.core.answers import Answer


class _Entry(Protocol):
    @property
    def id(self) -> str: ...


EntryT = TypeVar("EntryT", bound=_Entry)
AnswerT = TypeVar("AnswerT", bound="Answer")


@dataclass(frozen=True, slots=True)
class Slice(Generic[EntryT]):
    """The entries of one page, in the order of their ids, and whether more follow."""

    entries: list[EntryT]
    more: bool


def slice_of(
    entries: Iterable[EntryT], query: Mapping[str, object], *, limit: int, cursor: str | None
) -> Slice[EntryT]:
    """Return the page after ``cursor``: ids order the entries, so that pages hold while entries come and go.

    Raises:
        InvalidInput: the cursor belongs to another query.
    """
    after = "".join(map(str, decode_cursor(cursor, query))) if cursor else ""
    left = sorted((entry for entry in entries if entry.id > after), key=lambda entry: entry.id)
    return Slice(left[:limit], more=len(left) > limit)


def fit_page(
    views: Sequence[AnswerT], query: Mapping[str, object], *, id_of: Callable[[AnswerT], str], more: bool
) -> tuple[list[AnswerT], str | None]:
    """Return as many views as the byte budget allows (at least one), and the cursor of the next page if there is one."""
    kept = list(views[: max(1, fitting_values(views, MOST_BYTES))])
    more = more or len(kept) < len(views)
    return kept, encode_cursor(query, [id_of(kept[-1])]) if more and kept else None
