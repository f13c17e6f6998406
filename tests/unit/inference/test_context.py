import asyncio
import contextvars
import threading

import pytest

from voicegw_mcp import inference
from voicegw_mcp.errors import InvalidInput, NotFound
from voicegw_mcp.inference import context
from voicegw_mcp.inference.runtime import current

FILE = "default_project: shop\nprojects:\n  shop: {name: Shop}\n  club: {name: Club}\n  fair: {name: Fair}\n"


def test_a_project_is_found_in_this_order(configure, monkeypatch):
    path = configure("")
    assert inference.get_active_project() == "default"
    path.write_text(FILE)
    assert inference.get_active_project() == "shop"
    monkeypatch.setenv("VOICEGW_ACTIVE_PROJECT", "club")
    assert inference.get_active_project() == "club"
    inference.set_project("fair")
    assert inference.get_active_project() == "fair"


def test_a_call_goes_by_the_project_set_for_it_then_by_its_instances(configure, monkeypatch):
    configure(FILE)
    catalog = current().catalog()
    monkeypatch.setenv("VOICEGW_ACTIVE_PROJECT", "gone")
    assert context.project_id(catalog, "club") == "club"
    assert context.project_id(catalog) == "gone"
    with inference.set_project("fair"):
        assert context.project_id(catalog, "club") == "fair"


def test_a_block_puts_back_what_was_set_before(configure):
    configure(FILE)
    with inference.set_project("club") as outer:
        with inference.set_project("fair"), inference.session("a"):
            assert (inference.get_active_project(), context.session_id()) == ("fair", "a")
        assert (outer.value, str(outer)) == ("club", "club")
        assert (inference.get_active_project(), context.session_id()) == ("club", None)
    assert inference.get_active_project() == "shop"


def test_a_block_may_be_left_in_another_context(configure):
    configure(FILE)
    setting = contextvars.copy_context().run(lambda: inference.set_project("club"))
    setting.__exit__(None, None, None)
    assert inference.get_active_project() == "shop"


@pytest.mark.parametrize("name", ["shopp", ""])
def test_an_unknown_project_is_refused(configure, name):
    configure(FILE)
    with pytest.raises(NotFound) as caught:
        inference.set_project(name)
    assert caught.value.error_code == "PROJECT_NOT_FOUND"
    assert inference.get_active_project() == "shop"
    if name:
        assert caught.value.details["nearest"] == ["shop"]


def test_an_unknown_project_tells_who_named_it(configure, monkeypatch):
    path = configure(FILE)
    monkeypatch.setenv("VOICEGW_ACTIVE_PROJECT", "clubb")
    with pytest.raises(NotFound) as caught:
        inference.get_active_project()
    assert "The project was named by VOICEGW_ACTIVE_PROJECT." in caught.value.__notes__
    assert "Did you mean club?" in caught.value.__notes__
    monkeypatch.delenv("VOICEGW_ACTIVE_PROJECT")
    path.write_text("default_project: nowhere\n")
    with pytest.raises(NotFound) as caught:
        inference.get_active_project()
    assert "The project was named by default_project in voicegw.yaml." in caught.value.__notes__
    path.write_text(FILE)
    inference.set_project("club")
    path.write_text("")
    with pytest.raises(NotFound) as caught:
        inference.get_active_project()
    assert "The project was named by set_project." in caught.value.__notes__


async def test_conversations_keep_apart(configure):
    configure(FILE)
    inference.set_project("club")

    async def talk(project, session):
        inference.set_project(project)
        inference.session(session)
        await asyncio.sleep(0)
        inner = asyncio.create_task(asyncio.sleep(0, (inference.get_active_project(), context.session_id())))
        return await inner

    both = await asyncio.gather(talk("shop", "a"), talk("fair", "b"))
    assert both == [("shop", "a"), ("fair", "b")]
    assert (inference.get_active_project(), context.session_id()) == ("club", None)


def test_a_session_gets_an_id_of_its_own(configure):
    configure("")
    first, second = inference.session(), inference.session()
    assert first.value != second.value == context.session_id()
    assert first.value.startswith("vg-")


@pytest.mark.parametrize("session_id", ["", "x" * 201, "a\nb"])
def test_what_is_no_id_of_a_session_is_refused(configure, session_id):
    configure("")
    with pytest.raises(InvalidInput) as caught:
        inference.session(session_id)
    assert caught.value.details["field"] == "session_id"


def test_another_thread_has_a_context_of_its_own(configure):
    configure(FILE)
    seen = []
    with inference.set_project("club"):
        thread = threading.Thread(target=lambda: seen.append(inference.get_active_project()))
        thread.start()
        thread.join()
    assert seen == ["shop"]
