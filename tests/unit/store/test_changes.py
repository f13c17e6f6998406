from dataclasses import replace
from functools import partial

from voicegw_mcp.store.changes import (
    ChangeRecord,
    get_change,
    insert_pending,
    list_changes,
    mark_applied,
    mark_failed,
    new_id,
    pending_changes,
)


def change(now_ms=1_000, **fields):
    record = ChangeRecord(
        id=new_id(now_ms), created_ms=now_ms, applied_ms=None, state="pending", actor="me", door="stdio", tool="add_provider",
        summary="Added é", file="/f.yaml", version_before="a", version_after="b", diff="+x", edits="[]", undoes=None,
    )  # fmt: skip
    return replace(record, **fields)


def test_ids_sort_by_time_and_differ_within_a_millisecond():
    ids = [new_id(ms) for ms in (0, 1, 31, 32, 1_700_000_000_000, 2**50 - 1)]
    assert ids == sorted(ids)
    assert {len(id_) for id_ in ids} == {20}
    assert len({new_id(5) for _ in range(100)}) == 100


async def test_a_change_is_pending_until_it_is_settled_once(store):
    record = change(state="applied", applied_ms=5)
    await store.write(lambda connection: insert_pending(connection, record))
    stored = await store.ask(get_change, record.id)
    assert stored == replace(record, state="pending", applied_ms=None)
    assert await store.write(partial(pending_changes, file="/f.yaml")) == [stored]
    assert await store.write(partial(pending_changes, file="/other.yaml")) == []
    assert await store.write(lambda connection: mark_applied(connection, record.id, 7)) is True
    assert await store.write(lambda connection: mark_failed(connection, record.id)) is False
    assert await store.ask(get_change, record.id) == replace(record, state="applied", applied_ms=7)
    assert await store.write(partial(pending_changes, file="/f.yaml")) == []
    assert await store.ask(get_change, "none") is None


async def test_changes_are_listed_newest_first_page_by_page(store):
    records = [change(now_ms=1000 + n) for n in range(5)]
    for record in records:
        await store.write(lambda connection, record=record: insert_pending(connection, record))
    await store.write(lambda connection: mark_failed(connection, records[0].id))
    seen, before = [], None
    while page := await store.ask(list_changes, limit=2, before=before):
        seen += page
        before = page[-1].id
    assert [found.id for found in seen] == [record.id for record in reversed(records)]
    assert seen[-1].state == "failed"
