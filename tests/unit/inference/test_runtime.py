import multiprocessing
import os
import sqlite3
import threading

import pytest
from tests.factories import NOW, request_record

from voicegw_mcp import inference
from voicegw_mcp.domain import Modality
from voicegw_mcp.errors import InvalidInput, NotFound, StoreUnavailable
from voicegw_mcp.inference.leaf import Leaf
from voicegw_mcp.inference.runtime import Runtime, current

FILE = """
providers:
  openai: {}
  ollama: {}
  idle: {type: openai, enabled: false}
projects:
  shop: {name: Shop, providers: {openai: {api_key: "${SHOP_KEY}"}}}
"""


def rows(path):
    """Return the ids in a store."""
    with sqlite3.connect(path) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM requests ORDER BY id")]


def test_the_file_is_read_again_when_it_changed(configure):
    path = configure(FILE)
    assert list(current().catalog().providers) == ["openai", "ollama", "idle"]
    path.write_text("providers: {groq: {}}\n")
    assert list(current().catalog().providers) == ["groq"]
    assert current().catalog() is current().catalog()


def test_without_a_file_everything_is_unknown(tmp_path, monkeypatch, configure):
    configure("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "voicegw.yaml").unlink()
    inference.configure(None)
    with pytest.raises(NotFound) as caught:
        inference.STT("deepgram/nova-3")
    assert "add_provider provider_id=deepgram" in caught.value.hint


def test_a_file_that_is_named_has_to_be_there(configure, monkeypatch, tmp_path):
    path = configure(FILE)
    with pytest.raises(InvalidInput, match="There is no file") as caught:
        inference.configure(tmp_path / "nowhere.yaml")
    assert caught.value.details["field"] == "config"
    assert current().catalog().configuration.path == path, "the one before stays in force"
    inference.configure(None)
    monkeypatch.setenv("VOICEGW_CONFIG", str(tmp_path / "nowhere.yaml"))
    with pytest.raises(InvalidInput) as caught:
        inference.get_active_project()
    assert caught.value.details["field"] == "VOICEGW_CONFIG"


def test_another_file_holds_for_instances_that_are_there_too(configure, tmp_path):
    configure(FILE)
    runtime = current()
    runtime.recorder().record(request_record(id="a"))
    other = tmp_path / "other.yaml"
    other.write_text("providers: {groq: {}}\n")
    inference.configure(other)
    assert rows(tmp_path / "voicegw.db") == ["a"]
    assert (current() is runtime, list(runtime.catalog().providers)) == (True, ["groq"])


def test_what_is_priced_while_another_file_is_taken_is_written(configure, tmp_path, monkeypatch):
    configure(FILE)
    runtime = current()
    closing = threading.Event()
    close = Runtime.close

    def told(self):
        closing.set()
        close(self)

    def price():
        assert closing.wait(20)
        assert runtime.prices() is not None
        return request_record(id="late")

    monkeypatch.setattr(Runtime, "close", told)
    recorder = runtime.recorder()
    recorder.record(price)
    other = tmp_path / "other.yaml"
    other.write_text("providers: {groq: {}}\n")
    inference.configure(other)
    assert recorder.counts().lost == {}
    assert rows(tmp_path / "voicegw.db") == ["late"]
    assert list(runtime.catalog().providers) == ["groq"]


def test_prices_and_the_time_are_the_gateways(configure):
    configure("pricing: {m: {per_minute: 1}}\n")
    found = (
        current()
        .prices()
        .find(modality=Modality.STT, provider_type="openai", model_id="m", model_name="m", at_ms=NOW)
    )
    assert found.source == "override"
    assert current().now_ms() > NOW - 10**12


def test_the_recorder_goes_where_the_file_says(configure, monkeypatch, tmp_path):
    path = configure("cost_tracking: {db_path: a.db}\n")
    monkeypatch.delenv("VOICEGW_DB_PATH")
    inference.configure(path)
    runtime = current()
    first = runtime.recorder()
    first.record(request_record(id="a"))
    assert runtime.recorder() is first
    path.write_text("cost_tracking: {db_path: a.db}\ntimezone: Europe/Berlin\n")
    assert runtime.recorder() is first
    path.write_text("cost_tracking: {db_path: b.db}\n")
    runtime.recorder().record(request_record(id="b"))
    path.write_text("observability: {request_logging: false}\n")
    assert runtime.recorder() is None
    for thread in threading.enumerate():
        if thread.name == "voicegw-recorder-end":
            thread.join()
    assert (rows(tmp_path / "a.db"), rows(tmp_path / "b.db")) == (["a"], ["b"])


def test_a_store_that_is_no_path_is_told(configure, monkeypatch):
    path = configure("cost_tracking: {db_path: '~nobody-is-called-so/x.db'}\n")
    monkeypatch.delenv("VOICEGW_DB_PATH")
    inference.configure(path)
    with pytest.raises(StoreUnavailable):
        current().recorder()


def test_a_leafs_key_is_looked_up_now(configure, monkeypatch):
    configure(FILE)
    monkeypatch.setenv("OPENAI_API_KEY", "one")
    monkeypatch.setenv("SHOP_KEY", "two")
    leaf = Leaf(Modality.LLM, "openai", "openai", "openai/m", "m")
    assert current().key_of(leaf).value.get_secret_value() == "one"
    monkeypatch.setenv("OPENAI_API_KEY", "three")
    assert current().key_of(leaf).value.get_secret_value() == "three"
    shop = Leaf(Modality.LLM, "openai", "openai", "openai/m", "m", account="shop")
    assert current().key_of(shop).value.get_secret_value() == "two"
    monkeypatch.delenv("SHOP_KEY")
    assert current().key_of(shop).command == "voicegw secrets set SHOP_KEY"
    assert current().key_of(Leaf(Modality.LLM, "openai", "openai", "m", "m", own_key=True)) is None
    assert current().key_of(Leaf(Modality.LLM, "ollama", "ollama", "m", "m")) is None
    with pytest.raises(InvalidInput, match="switched off"):
        current().key_of(Leaf(Modality.LLM, "idle", "openai", "m", "m"))


def test_it_is_opened_once_by_many_threads(configure):
    configure(FILE)
    runtime, start, seen = current(), threading.Barrier(8), []

    def work():
        start.wait()
        seen.append((runtime.gateway(), runtime.recorder()))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(id(gateway), id(recorder)) for gateway, recorder in seen}) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_after_a_fork_the_child_opens_its_own(configure, tmp_path):
    configure(FILE)
    runtime = current()
    runtime.recorder().record(request_record(id="parent"))
    gateway = runtime.gateway()
    held = threading.Event()
    free = threading.Event()

    def hold():
        with runtime._lock:
            held.set()
            free.wait(30)

    def child():
        assert runtime.gateway() is not gateway
        runtime.recorder().record(request_record(id="child"))

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    free.set()
    thread.join()
    assert process.exitcode == 0
    assert runtime.recorder().flush()
    assert rows(tmp_path / "voicegw.db") == ["child", "parent"]


def test_closing_twice_is_fine(configure):
    configure(FILE)
    runtime = Runtime()
    runtime.close()
    runtime.close()


def test_what_is_no_text_is_refused_where_an_id_is_asked_for(configure):
    configure(FILE)
    for call, field in (
        (lambda: inference.set_project(None), "project_id"),
        (lambda: inference.set_project([1]), "project_id"),
        (lambda: inference.session(5), "session_id"),
        (lambda: inference.STT("openai/whisper-1", language=5), "language"),
    ):
        with pytest.raises(InvalidInput, match="is no text") as caught:
            call()
        assert caught.value.details["field"] == field


def test_what_is_wrong_with_the_files_own_fallbacks_says_where_they_are(configure):
    configure(FILE + "fallbacks: {llm: [nope/x]}\n")
    with pytest.raises(NotFound, match="nope") as caught:
        inference.LLM("ollama/qwen")
    assert any("fallbacks.llm of voicegw.yaml" in note for note in caught.value.__notes__)
    with pytest.raises(NotFound) as caught:
        inference.LLM("ollama/qwen", fallback=["nope/x"])
    assert not any("fallbacks.llm" in note for note in getattr(caught.value, "__notes__", []))
    assert inference.LLM("ollama/qwen", fallback=[]).model == "qwen"
