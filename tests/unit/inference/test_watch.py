import os
import threading
from multiprocessing import get_context

import pytest

from voicegw_mcp import inference
from voicegw_mcp.config.file import ConfigFile
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.errors import ConfigInvalid
from voicegw_mcp.inference import watch
from voicegw_mcp.inference.runtime import current

THREAD = "voicegw-config-watch"
BOUND_S = 20


@pytest.fixture(autouse=True)
def looked(monkeypatch):
    """Let the thread look often; gives what waits until it has looked so many times more, and who looked."""
    inference.configure(None)
    for thread in watching():  # of the test before: nothing waits for it when it is ended
        thread.join(BOUND_S)
    assert watching() == []
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.005)
    load, looks, who = ConfigFile.load, threading.Semaphore(0), []

    def told(self, **options):
        who.append(threading.current_thread().name)
        try:
            return load(self, **options)
        finally:
            looks.release()

    def wait(times=2):
        who.clear()
        while looks.acquire(blocking=False):
            pass
        assert all(looks.acquire(timeout=BOUND_S) for _ in range(times))
        return set(who)

    monkeypatch.setattr(ConfigFile, "load", told)
    return wait


def wait_for(condition, looked):
    """Wait until something holds, a look after the other."""
    for _ in range(1_000):
        if condition():
            return
        looked(1)
    raise AssertionError("it never came to hold")


def watching():
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def test_a_change_holds_for_requests_though_none_of_them_looks_at_a_file(configure, looked):
    path = configure("providers: {openai: {}}\n")
    assert list(current().catalog_lately().providers) == ["openai"]
    path.write_text("providers: {groq: {}}\n")
    wait_for(lambda: list(current().catalog_lately().providers) == ["groq"], looked)
    assert looked() == {THREAD}
    assert current().catalog_lately() is current().catalog_lately()


def test_what_somebody_just_looked_up_holds_for_requests_at_once(configure, monkeypatch):
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 1_000)
    path = configure("providers: {openai: {}}\n")
    before = current().catalog_lately()
    path.write_text("providers: {groq: {}}\n")
    assert current().catalog_lately() is before
    assert list(current().catalog().providers) == ["groq"]
    assert list(current().catalog_lately().providers) == ["groq"]


def test_a_file_that_breaks_or_goes_holds_as_it_was_until_it_is_whole_again(configure, looked):
    path = configure("providers: {openai: {}}\n")
    before = current().catalog_lately()
    path.write_text("providers: [")
    looked()
    assert current().catalog_lately() is before
    path.unlink()
    looked()
    assert current().catalog_lately() is before
    path.write_text("providers: {groq: {}}\n")
    wait_for(lambda: list(current().catalog_lately().providers) == ["groq"], looked)


def test_a_file_that_was_never_whole_is_told_of_at_every_request(configure):
    path = configure("providers: [")
    for _ in range(2):
        with pytest.raises(ConfigInvalid):
            current().catalog_lately()
    assert watching() == []
    path.write_text("providers: {groq: {}}\n")
    assert list(current().catalog_lately().providers) == ["groq"]


def test_a_look_that_fails_is_followed_by_the_next_one(configure, looked, monkeypatch):
    path = configure("providers: {openai: {}}\n")
    current().catalog_lately()
    failed = threading.Event()
    with monkeypatch.context() as broken:
        broken.setattr(Gateway, "catalog", lambda _: failed.set() or 1 / 0)
        assert failed.wait(BOUND_S)
    path.write_text("providers: {groq: {}}\n")
    wait_for(lambda: list(current().catalog_lately().providers) == ["groq"], looked)


def test_another_file_is_watched_by_another_thread_and_the_first_one_ends(configure, looked):
    path = configure("providers: {openai: {}}\n")
    current().catalog_lately()
    (first,) = watching()
    configure("providers: {groq: {}}\n")
    assert list(current().catalog_lately().providers) == ["groq"]
    first.join(BOUND_S)
    (second,) = watching()
    assert second is not first
    path.write_text("providers: {deepgram: {}}\n")
    wait_for(lambda: list(current().catalog_lately().providers) == ["deepgram"], looked)


def test_many_first_requests_at_once_begin_one_thread(configure):
    configure("providers: {openai: {}}\n")
    start, seen = threading.Barrier(8), []

    def ask():
        start.wait()
        seen.append(current().catalog_lately())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(watching()), len(seen)) == (1, 8)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_after_a_fork_the_child_watches_by_itself(configure, looked):
    path = configure("providers: {openai: {}}\n")
    current().catalog_lately()

    def child():
        assert watching() == []
        assert list(current().catalog_lately().providers) == ["openai"]
        assert len(watching()) == 1
        path.write_text("providers: {groq: {}}\n")
        wait_for(lambda: list(current().catalog_lately().providers) == ["groq"], looked)

    process = get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    assert process.exitcode == 0
    wait_for(lambda: list(current().catalog_lately().providers) == ["groq"], looked)


def test_where_no_thread_is_to_be_had_requests_look_themselves(configure, monkeypatch):
    path = configure("providers: {openai: {}}\n")
    monkeypatch.setattr(threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError("no thread")))
    assert list(current().catalog_lately().providers) == ["openai"]
    path.write_text("providers: {groq: {}}\n")
    assert list(current().catalog_lately().providers) == ["groq"]
