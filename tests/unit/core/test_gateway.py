import getpass
import os
import time
from dataclasses import replace
from decimal import Decimal
from functools import partial

import anyio
import pytest
from tests.factories import request_record

from voicegw_mcp.core import store_handle
from voicegw_mcp.core.gateway import Gateway, price_overrides
from voicegw_mcp.errors import ConfigInvalid, StoreUnavailable
from voicegw_mcp.store.requests import insert_requests


def opened(tmp_path, text="", **environment):
    (tmp_path / "voicegw.yaml").write_text(text)
    return Gateway.open(str(tmp_path / "voicegw.yaml"), door="test", environment=environment)


def test_opening_touches_neither_file_nor_store(tmp_path):
    gateway = Gateway.open(str(tmp_path / "none" / "voicegw.yaml"), door="test", environment={})
    assert list(tmp_path.iterdir()) == []
    assert gateway.instance_id != opened(tmp_path).instance_id


def test_the_process_s_own_environment_is_used_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("VOICEGW_CONFIG", str(tmp_path / "x.yaml"))
    assert Gateway.open(door="test").config_file.path == tmp_path / "x.yaml"


def test_the_store_is_where_the_variable_the_file_or_the_default_says(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    named = opened(tmp_path, "cost_tracking: {db_path: sub/x.db}", VOICEGW_DB_PATH="~/y.db")
    assert named.store_handle.wanted_path() == tmp_path / "y.db"
    assert (
        opened(tmp_path, "cost_tracking: {db_path: sub/x.db}").store_handle.wanted_path()
        == tmp_path / "sub/x.db"
    )
    default = tmp_path / ".config" / "voicegateway" / "voicegw.db"
    assert opened(tmp_path).store_handle.wanted_path() == default


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x.db", "a\0b"])
def test_a_path_that_is_none_is_a_store_that_cannot_be_opened(tmp_path, path):
    with pytest.raises(StoreUnavailable, match="no path of a store"):
        opened(tmp_path, VOICEGW_DB_PATH=path).store_handle.wanted_path()


async def test_many_calls_at_once_open_one_store_and_closing_twice_is_fine(tmp_path):
    gateway = opened(tmp_path, VOICEGW_DB_PATH=str(tmp_path / "x.db"))
    found = []

    async def ask():
        found.append(await gateway.store())

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(ask)
    assert len({id(store) for store in found}) == 1
    await gateway.close()
    await gateway.close()


async def test_a_store_that_moves_in_the_file_is_opened_there(tmp_path):
    gateway = opened(tmp_path, "cost_tracking: {db_path: one.db}")
    assert (await gateway.store()).path.name == "one.db"
    gateway.config_file.path.write_text("cost_tracking: {db_path: two.db}")
    assert (await gateway.store()).path.name == "two.db"
    await gateway.close()


async def test_a_store_that_could_not_be_opened_is_tried_again(tmp_path):
    path = tmp_path / "x.db"
    path.write_bytes(b"garbage " * 1_000)
    gateway = opened(tmp_path, VOICEGW_DB_PATH=str(path))
    with pytest.raises(StoreUnavailable):
        await gateway.store()
    path.unlink()
    assert (await gateway.store()).path == path
    await gateway.close()


async def test_a_broken_file_hides_the_store_it_names(tmp_path):
    gateway = opened(tmp_path, "nonsense: 1")
    with pytest.raises(ConfigInvalid):
        await gateway.store()
    await gateway.close()


def test_the_catalog_is_made_once_for_each_version_of_the_file_and_prices_for_each_of_theirs(tmp_path):
    gateway = opened(tmp_path, "projects: {a: {name: A}}")
    first, prices = gateway.catalog(), gateway.prices()
    assert gateway.catalog() is first
    assert gateway.prices() is prices
    gateway.config_file.path.write_text("projects: {b: {name: B}}")
    assert list(gateway.catalog().projects) == ["default", "b"]
    assert gateway.prices() is prices
    gateway.config_file.path.write_text("pricing: {m: {per_minute: 1}}")
    assert gateway.prices() is not prices


def test_own_prices_are_exact_decimals(tmp_path):
    gateway = opened(
        tmp_path,
        "pricing:\n  m: {per_minute: 0.0043, effective: 2026-01-02}\n  n: [{per_1000_characters: 1}]\n",
    )
    overrides = price_overrides(gateway.catalog().settings)
    assert overrides["m"][0].usd_per_minute == Decimal("0.0043")
    assert overrides["m"][0].date == "2026-01-02"
    assert (overrides["n"][0].date, overrides["n"][0].usd_per_minute) == ("", None)


def test_a_caller_is_named_by_what_it_says_else_by_the_user(tmp_path, monkeypatch):
    gateway = opened(tmp_path)
    assert gateway.as_caller("").caller == gateway.caller
    assert gateway.as_caller("cursor").caller == replace(gateway.caller, actor="cursor")

    def nobody():
        raise KeyError

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert opened(tmp_path).caller.actor == "unknown"


async def test_requests_are_counted_again_when_the_store_changed_and_only_then(tmp_path, monkeypatch):
    gateway = opened(tmp_path, VOICEGW_DB_PATH=str(tmp_path / "s.db"))
    asked = []
    counting = store_handle.recorded_requests

    def count(reads):
        asked.append(reads)
        return counting(reads)

    monkeypatch.setattr(store_handle, "recorded_requests", count)
    try:
        store = await gateway.store()
        long_ago = time.time() - 60
        for file in (store.path, store.path.with_name(f"{store.path.name}-wal")):
            os.utime(file, (long_ago, long_ago))
        assert (await gateway.store_handle.figures(gateway.config_file)).requests == 0
        figures = await gateway.store_handle.figures(gateway.config_file)
        assert (figures.requests, len(asked)) == (0, 1)
        assert figures.size_bytes == store.stamp().size_bytes()
        await store.write(partial(insert_requests, records=[request_record()]))
        assert (await gateway.store_handle.figures(gateway.config_file)).requests == 1
    finally:
        await gateway.close()


async def test_a_working_directory_that_is_gone_keeps_nothing_from_starting(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    gateway = Gateway.open(door="test", environment={"HOME": str(tmp_path), "VOICEGW_DB_PATH": "relative.db"})
    with pytest.raises(StoreUnavailable, match="working directory"):
        await gateway.store()
    await gateway.close()
