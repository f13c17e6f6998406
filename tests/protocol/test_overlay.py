"""A voicegw.yaml that takes no changes: they go to the overlay beside the store, and the base says that it is read-only."""

import os

import pytest
import yaml
from tests.protocol.agents import FILE, House

from voicegw_mcp.config import disk as disk_module
from voicegw_mcp.core.undo import undo_change

ADD = {"project_id": "new", "name": "New"}


@pytest.fixture
def mounts(monkeypatch, tmp_path):
    """Return a file that stands for the kernel's list of mounts: mounting needs rights that tests do not have."""
    found = tmp_path / "mountinfo"
    found.write_text("36 35 98:0 / / rw - ext4 /dev/root rw\n")
    monkeypatch.setattr(disk_module, "MOUNTS", found)
    monkeypatch.setattr(disk_module, "MOUNTS_S", 0.0)
    return found


@pytest.fixture
def house(tmp_path, mounts):
    """A gateway whose file was mounted by itself into the container."""
    house = House(tmp_path / "gateway")
    house.folder.mkdir()
    house.write(FILE)
    mounts.write_text(f"37 36 98:0 /x {house.file} rw - ext4 /dev/root rw\n")
    return house


def overlay_of(house):
    return house.database.parent / "voicegw.overlay.yaml"


async def test_changes_go_to_the_overlay_and_the_base_keeps_every_byte(house):
    async with house.agent() as agent:
        answer = await agent.ok("create_project", **ADD)
        assert answer["file"] == str(overlay_of(house))
        assert answer["source"] == "overlay"
        assert answer["diff"].startswith("--- a/voicegw.overlay.yaml")
        assert house.text == FILE
        assert yaml.safe_load(overlay_of(house).read_text()) == {
            "overlay_of": str(house.file),
            "projects": {"new": {"name": "New"}},
        }
        project = await agent.ok("get_project", project_id="new")
        assert (project["source"], project["file"], project["line"]) == ("overlay", str(overlay_of(house)), 3)
        assert project["config_version"] == answer["config_version"]
        base = await agent.ok("get_project", project_id="outbound")
        assert (base["source"], base["file"]) == ("yaml", str(house.file))


async def test_get_health_tells_why_and_where_changes_go(house):
    async with house.agent() as agent:
        health = await agent.ok("get_health")
    assert health["status"] == "ok"
    assert health["config"]["overlay"] is True
    (warning,) = [text for text in health["warnings"] if "takes no changes" in text]
    assert "mounted by itself" in warning
    assert str(overlay_of(house)) in warning


@pytest.mark.parametrize(
    ("tool", "arguments", "entry"),
    [
        ("delete_model", {"model_id": "ollama/qwen3", "confirm": True, "cascade": True}, "models.llm.ollama/qwen3"),
        ("delete_project", {"project_id": "outbound", "confirm": True}, "projects.outbound"),
        ("create_project", {"project_id": "outbound", "name": "X", "on_conflict": "update"}, "projects.outbound"),
        ("add_provider", {"provider_id": "deepgram", "provider_type": "deepgram", "on_conflict": "update", "base_url": "https://api.deepgram.com/v2"}, "providers.deepgram"),
    ],
)  # fmt: skip
async def test_entries_of_the_base_are_read_only_and_say_so(house, tool, arguments, entry):
    async with house.agent() as agent:
        error = await agent.refused(tool, arguments)
    assert error["code"] == "READ_ONLY_RESOURCE"
    assert error["details"]["field"] == entry
    assert "mounted by itself" in error["message"]
    assert str(house.file) in error["hint"]
    assert house.text == FILE
    assert not overlay_of(house).exists()


async def test_entries_of_the_overlay_are_changed_deleted_and_undone_there(house):
    async with house.agent() as agent:
        await agent.ok("add_provider", provider_id="groq", provider_type="groq")
        await agent.ok("register_model", modality="llm", provider_id="groq", model_name="llama")
        with_model = overlay_of(house).read_text()
        await agent.ok(
            "register_model",
            modality="llm",
            provider_id="groq",
            model_name="llama",
            display_name="L",
            on_conflict="update",
        )
        assert "display_name: L" in overlay_of(house).read_text()
        await undo_change(agent.gateway, tool="undo_change")
        assert overlay_of(house).read_text() == with_model
        listed = await agent.ok("list_models", provider_id="groq")
        assert [model["source"] for model in listed["models"]] == ["overlay"]
        await agent.ok("delete_provider", provider_id="groq", confirm=True, cascade=True)
        assert "groq" not in overlay_of(house).read_text()
        assert house.text == FILE
    assert [row[1] for row in house.journal()] == ["applied"] * 5  # fmt: skip


async def test_a_new_version_of_the_base_is_followed_and_wins_over_the_overlay(house):
    async with house.agent() as agent:
        await agent.ok("create_project", **ADD)
        house.write(FILE.replace("projects:\n", "projects:\n  new:\n    name: From the base\n"))
        project = await agent.ok("get_project", project_id="new")
        assert (project["name"], project["source"]) == ("From the base", "yaml")
        health = await agent.ok("get_health")
        (warning,) = [text for text in health["warnings"] if "projects.new" in text]
        assert warning.startswith("voicegw.overlay.yaml:3: projects.new is in the read-only file as well")


async def test_when_the_base_can_be_changed_again_new_entries_go_there_and_the_overlay_s_stay(house, mounts):
    async with house.agent() as agent:
        await agent.ok("create_project", **ADD)
    mounts.write_text("")
    async with house.agent() as agent:
        answer = await agent.ok("create_project", project_id="later", name="Later")
        assert answer["file"] == str(house.file)
        changed = await agent.ok("create_project", project_id="new", name="Renamed", on_conflict="update")
        assert changed["file"] == str(overlay_of(house))
        assert {"new", "later", "outbound"} <= {
            project["id"] for project in (await agent.ok("list_projects"))["projects"]
        }


async def test_an_overlay_of_another_file_beside_the_same_store_is_left_alone(house):
    overlay_of(house).write_text("overlay_of: /somewhere/else/voicegw.yaml\nprojects: {x: {name: X}}\n")
    async with house.agent() as agent:
        assert "x" not in {project["id"] for project in (await agent.ok("list_projects"))["projects"]}
        error = await agent.refused("create_project", **ADD)
    assert error["code"] == "READ_ONLY_RESOURCE"
    assert "another file" in error["message"]
    assert "VOICEGW_OVERLAY" in error["hint"]


async def test_an_overlay_named_by_hand_is_in_force_whatever_it_says(house, tmp_path):
    named = tmp_path / "mine.yaml"
    named.write_text("projects: {x: {name: X}}\n")
    house.environment["VOICEGW_OVERLAY"] = str(named)
    async with house.agent() as agent:
        assert (await agent.ok("get_project", project_id="x"))["source"] == "overlay"
        await agent.ok("create_project", **ADD)
    assert "new" in yaml.safe_load(named.read_text())["projects"]


async def test_a_broken_overlay_is_named_with_its_line_and_the_last_good_version_stays(house):
    async with house.agent() as agent:
        await agent.ok("create_project", **ADD)
        good = overlay_of(house).read_text()
        overlay_of(house).write_text(good + "  broken: [\n")
        health = await agent.ok("get_health")
        assert health["status"] == "degraded"
        assert health["config"]["error"]["file"] == str(overlay_of(house))
        assert health["config"]["error"]["line"] >= 4
        assert (await agent.ok("get_project", project_id="new"))["name"] == "New"
        assert (await agent.refused("create_project", project_id="y", name="Y"))["code"] == "CONFIG_INVALID"
        overlay_of(house).write_text(good.replace("name: New", "nam: New"))
        error = (await agent.ok("get_health"))["config"]["error"]
        assert (error["file"], error["line"]) == (str(overlay_of(house)), 3)
        overlay_of(house).write_text(good)
        await agent.ok("create_project", project_id="y", name="Y")


async def test_an_entry_under_which_another_one_would_come_to_light_is_not_deleted(house, mounts):
    async with house.agent() as agent:
        await agent.ok("create_project", **ADD)
        house.write(FILE.replace("projects:\n", "projects:\n  new:\n    name: From the base\n"))
        mounts.write_text("")
        error = await agent.refused("delete_project", project_id="new", confirm=True)
    assert (error["code"], error["details"]["field"]) == ("CONFLICT", "projects.new")
    assert str(overlay_of(house)) in error["hint"]


async def test_an_overlay_that_was_edited_restored_or_deleted_is_told_by_get_health(house):
    async with house.agent() as agent:
        first = await agent.ok("create_project", **ADD)
        kept = overlay_of(house).read_bytes()
        await agent.ok("create_project", project_id="later", name="Later")
        assert "journal" not in (await agent.ok("get_health"))["config"]
        overlay_of(house).write_bytes(kept)
        told = (await agent.ok("get_health"))["config"]["journal"]
        assert told.startswith(f"voicegw.overlay.yaml is as change {first['change_id']} left it")
        overlay_of(house).unlink()
        told = (await agent.ok("get_health"))["config"]["journal"]
        assert told.startswith(f"voicegw.overlay.yaml is as it was before change {first['change_id']}")


async def test_an_overlay_that_is_the_file_itself_is_none(house, mounts):
    mounts.write_text("")
    house.environment["VOICEGW_OVERLAY"] = str(house.file)
    async with house.agent() as agent:
        assert (await agent.ok("create_project", **ADD))["file"] == str(house.file)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any folder")
async def test_a_read_only_folder_makes_changes_go_to_the_overlay(tmp_path):
    house = House(tmp_path / "gateway")
    house.folder.mkdir()
    house.write(FILE)
    house.environment["VOICEGW_DB_PATH"] = str(tmp_path / "data" / "voicegw.db")
    house.folder.chmod(0o555)
    try:
        async with house.agent() as agent:
            answer = await agent.ok("create_project", **ADD)
            assert answer["file"] == str(tmp_path / "data" / "voicegw.overlay.yaml")
    finally:
        house.folder.chmod(0o755)


async def test_a_symlink_as_a_config_map_makes_it_is_read_through_its_swap(tmp_path):
    """Kubernetes swaps the folder that `..data` points to; the file's own path never changes."""
    house = House(tmp_path / "gateway")
    for number in (1, 2):
        version = house.folder / f"..{number}"
        version.mkdir(parents=True)
        (version / "voicegw.yaml").write_text(FILE.replace("Outbound", f"Outbound {number}"))
    data = house.folder / "..data"
    data.symlink_to("..1")
    house.file.symlink_to("..data/voicegw.yaml")
    async with house.agent() as agent:
        assert (await agent.ok("get_project", project_id="outbound"))["name"] == "Outbound 1"
        swap = house.folder / "..swap"
        swap.symlink_to("..2")
        swap.rename(data)
        assert (await agent.ok("get_project", project_id="outbound"))["name"] == "Outbound 2"
