import json
import shutil
import sqlite3
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from voicegw_mcp.config.document import Edit
from voicegw_mcp.core import imports
from voicegw_mcp.core.drafts import Plan
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.imports import EntryPlan, Skipped, import_entries, open_source, plan_entries

DATA = Path(__file__).parents[2] / "data"
OLD, NEW = DATA / "voicegateway-0.4.0.db", DATA / "voicegateway-0.27.0.db"

SMALL_YAML = """\
# Our gateway. Ask Ada before changing it.
providers:
  deepgram: {}   # US

projects:
  front-desk:
    name: Front desk   # the busy one
"""
SAMPLE_EDITS = (
    Edit(
        ("providers", "deepgram-eu"),
        {"type": "deepgram", "api_key": "${DEEPGRAM_API_KEY}", "base_url": "https://api.eu.deepgram.com"},
    ),
    Edit(("providers", "ollama-lab"), {"type": "ollama", "base_url": "http://127.0.0.1:11434"}),
    Edit(
        ("models", "stt", "deepgram-eu/nova-3"),
        {
            "provider": "deepgram-eu",
            "model": "nova-3",
            "display_name": "Nova 3 (EU)",
            "default_language": "de",
        },
    ),
    Edit(
        ("models", "llm", "ollama-lab/qwen2.5:3b"),
        {"provider": "ollama-lab", "model": "qwen2.5:3b", "enabled": False, "temperature": 0.2},
    ),
    Edit(
        ("projects", "clinic"),
        {
            "name": 'Clinic "Nord"',
            "description": "Termine: Mo–Fr",
            "daily_budget": 12.5,
            "budget_action": "block",
            "stt_model": "deepgram-eu/nova-3",
            "llm_model": "ollama-lab/qwen2.5:3b",
            "tags": ["prod", "de"],
        },
    ),
)
SAMPLE_NAMES = (
    "provider deepgram-eu",
    "provider ollama-lab",
    "model deepgram-eu/nova-3",
    "model ollama-lab/qwen2.5:3b",
    "project clinic",
)


@asynccontextmanager
async def opened(folder, yaml="", **environment):
    config = folder / "voicegw.yaml"
    if not config.exists():
        config.write_text(yaml)
    gateway = Gateway.open(
        str(config), door="cli", environment={"VOICEGW_DB_PATH": str(folder / "ours.db"), **environment}
    )
    try:
        yield gateway
    finally:
        await gateway.close()


@pytest.mark.parametrize("sample", [OLD, NEW], ids=["0.4.0", "0.27.0"])
async def test_entries_of_a_sample_are_planned_exactly(tmp_path, sample):
    async with opened(tmp_path) as gateway, open_source(sample) as source:
        assert plan_entries(source, gateway.catalog()) == EntryPlan(
            plan=Plan(f"Import 2 providers, 2 models, 1 project of '{sample.name}'", SAMPLE_EDITS),
            added=SAMPLE_NAMES,
            kept=(),
            skipped=(),
            secrets=("DEEPGRAM_API_KEY",),
        )


async def test_a_dry_run_shows_the_diff_and_writes_nothing_then_the_change_is_applied(tmp_path):
    config = tmp_path / "voicegw.yaml"
    async with opened(tmp_path, SMALL_YAML) as gateway, open_source(OLD) as source:
        shown, preview = await import_entries(gateway, source, dry_run=True)
        assert config.read_text() == SMALL_YAML
        assert preview.change_id is None
        assert not (tmp_path / "ours.db").exists()
        planned, receipt = await import_entries(gateway, source, dry_run=False)
        assert (planned, receipt.diff) == (shown, preview.diff)
        assert receipt.change_id is not None
        assert set(gateway.catalog().providers) == {"deepgram", "deepgram-eu", "ollama-lab"}
    changed = config.read_text()
    assert [line for line in changed.splitlines() if line in SMALL_YAML.splitlines() and line] == [
        line for line in SMALL_YAML.splitlines() if line
    ]
    assert not [line for line in receipt.diff.splitlines()[2:] if line.startswith("-")]
    assert "+    type: deepgram\n+    api_key: ${DEEPGRAM_API_KEY}\n" in receipt.diff
    with closing(sqlite3.connect(tmp_path / "ours.db")) as connection:
        journal = connection.execute("SELECT tool, summary FROM changes").fetchall()
    assert journal == [("import", "Import 2 providers, 2 models, 1 project of 'voicegateway-0.4.0.db'")]


@pytest.mark.parametrize("dry_run", [True, False])
async def test_entries_that_the_file_has_are_kept_as_they_are(tmp_path, dry_run):
    async with opened(tmp_path, SMALL_YAML) as gateway, open_source(OLD) as source:
        await import_entries(gateway, source, dry_run=False)
    before = (tmp_path / "voicegw.yaml").read_bytes()
    async with opened(tmp_path) as gateway, open_source(NEW) as source:
        assert await import_entries(gateway, source, dry_run=dry_run) == (
            EntryPlan(plan=None, added=(), kept=SAMPLE_NAMES, skipped=(), secrets=()),
            None,
        )
    assert (tmp_path / "voicegw.yaml").read_bytes() == before


PROVIDER = {
    "provider_type": "openai",
    "api_key_encrypted": "",
    "base_url": None,
    "extra_config": "{}",
    "project": None,
}
MODEL = {
    "modality": "llm",
    "provider_id": "openai",
    "model_name": "gpt-4o",
    "extra_config": "{}",
    "enabled": 1,
}
PROJECT = {"name": "P", "description": "", "daily_budget": 0, "budget_action": "warn", "tags": "[]"}


def managed(tmp_path, *, providers=(), models=(), projects=()):
    """A copy of a sample with these managed entries in place of its own."""
    path = tmp_path / "v.db"
    shutil.copyfile(OLD, path)
    tables = {
        "managed_providers": [PROVIDER | row for row in providers],
        "managed_models": [MODEL | row for row in models],
        "managed_projects": [PROJECT | row for row in projects],
    }
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for table, rows in tables.items():
            connection.execute(f"DELETE FROM {table}")
            for row in rows:
                stamped = {**row, "created_at": 1.0, "updated_at": 1.0}
                connection.execute(
                    f"INSERT INTO {table} ({', '.join(stamped)}) VALUES ({', '.join('?' for _ in stamped)})",
                    tuple(stamped.values()),
                )
    return path


async def planned(tmp_path, yaml="", **entries):
    """What becomes of these managed entries; the plan has been tried on the file as well."""
    async with opened(tmp_path, yaml) as gateway, open_source(managed(tmp_path, **entries)) as source:
        found, _ = await import_entries(gateway, source, dry_run=True)
    return found


def values(found):
    return {edit.path: edit.value for edit in (found.plan.edits if found.plan else ())}


async def test_ids_outside_the_grammar_are_skipped_and_named(tmp_path):
    found = await planned(
        tmp_path,
        "providers: {openai: {}}",
        providers=[{"provider_id": id_} for id_ in ("../../etc", "my openai", "OpenAI", "a\nb", "x" * 300)],
        models=[{"model_id": "a/../b"}, {"model_id": "gpt 4o"}, {"model_id": "m", "model_name": "gpt 4o"}],
        projects=[{"project_id": "Clinic"}, {"project_id": ""}],
    )
    assert (found.plan, found.added, found.kept) == (None, (), ())
    assert [(item.kind, item.id) for item in found.skipped] == [
        ("provider", "../../etc"),
        ("provider", "OpenAI"),
        ("provider", "'a\\nb'"),
        ("provider", "my openai"),
        ("provider", "'" + "x" * 78 + "…"),
        ("model", "a/../b"),
        ("model", "gpt 4o"),
        ("model", "m"),
        ("project", "''"),
        ("project", "Clinic"),
    ]
    assert found.skipped[0] == Skipped("provider", "../../etc", "provider_id '../../etc' is not a valid id.")
    assert found.skipped[7].reason == "model_name 'gpt 4o' is not a valid id."


async def test_a_stored_key_becomes_a_reference_of_its_own_and_is_never_shown(tmp_path):
    key = {"api_key_encrypted": "gAAAAABsecret"}
    found = await planned(
        tmp_path,
        "providers: {mine: {type: openai, api_key: '${OTHER_EU_API_KEY}'}}",
        providers=[
            {"provider_id": "openai"} | key,
            {"provider_id": "openai-eu"} | key,
            {"provider_id": "openai.eu"} | key,
            {"provider_id": "other.eu"} | key,
            {"provider_id": "openai-us"},
            {"provider_id": "deepgram"} | key,
            {"provider_id": "11labs", "provider_type": "elevenlabs"} | key,
            {"provider_id": "ollama", "provider_type": "ollama"} | key,
            {"provider_id": "lan", "provider_type": "openai_compatible", "base_url": "http://10.0.0.2/v1"},
        ],
    )
    assert (
        {path[-1]: entry.get("api_key") for path, entry in values(found).items()}
        == {
            "openai": "${OPENAI_API_KEY}",
            "openai-eu": "${OPENAI_EU_API_KEY}",
            "openai.eu": "${OPENAI_EU_API_KEY_2}",
            "other.eu": "${OTHER_EU_API_KEY_2}",
            "openai-us": "${OPENAI_API_KEY}",
            "deepgram": "${DEEPGRAM_API_KEY_2}",  # of type openai: Deepgram's own variable would send Deepgram's key there
            "11labs": "${_11LABS_API_KEY}",
            "ollama": "${OLLAMA_API_KEY}",
            "lan": None,
        }
    )
    assert found.secrets == (
        "_11LABS_API_KEY",
        "DEEPGRAM_API_KEY_2",
        "OLLAMA_API_KEY",
        "OPENAI_API_KEY",
        "OPENAI_EU_API_KEY",
        "OPENAI_EU_API_KEY_2",
        "OTHER_EU_API_KEY_2",
    )
    assert "gAAAA" not in repr(found)


async def test_providers_that_cannot_be_ones_here_are_skipped_with_the_reason(tmp_path):
    found = await planned(
        tmp_path,
        providers=[
            {"provider_id": "a", "provider_type": "openia"},
            {"provider_id": "b", "base_url": "ftp://host"},
            {"provider_id": "c", "base_url": "https://me:hunter2@host"},
            {"provider_id": "d", "base_url": "https://host/${OPENAI_API_KEY}"},
            {"provider_id": "clinic:openai", "project": "clinic"},
        ],
    )
    assert found.skipped == (
        Skipped("provider", "a", "'openia' is not a provider type."),
        Skipped("provider", "b", "A URL starts with http:// or https://."),
        Skipped("provider", "c", "A URL holds no user name, password or key."),
        Skipped("provider", "clinic:openai", found.skipped[3].reason),
        Skipped("provider", "d", "Its base_url holds ${, which the file would read as a reference."),
    )
    assert found.skipped[3].reason.startswith("It is for project 'clinic' alone.")
    assert found.plan is None


async def test_options_are_taken_one_by_one_and_offending_ones_listed(tmp_path):
    options = {
        "region": "eu",
        "retries": 3,
        "nested": {"hot": [1, 2.5, True, None]},
        "api_key": "sk-live",
        "auth_token": "sk-live",
        "bad name": 1,
        "home": "${HOME}",
        "deep": {"${KEY}": 1},
        "bell": "\x07",
        "half": "\ud800",
        "nan": float("nan"),
    }
    found = await planned(
        tmp_path, providers=[{"provider_id": "openai", "extra_config": json.dumps(options)}]
    )
    taken = {name: options[name] for name in ("region", "retries", "nested")}
    assert values(found) == {("providers", "openai"): {"api_key": "${OPENAI_API_KEY}", **taken}}
    assert [(item.kind, item.id) for item in found.skipped] == [
        ("option", f"openai.{name}") for name in list(options)[3:]
    ]
    assert "sk-live" not in repr(found)


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000, '"' + "x" * 70_000 + '"'])
async def test_options_that_are_no_json_object_are_listed(tmp_path, text):
    found = await planned(tmp_path, providers=[{"provider_id": "openai", "extra_config": text}])
    assert found.skipped == (Skipped("option", "openai.extra_config", "It is not a JSON object."),)
    assert values(found) == {("providers", "openai"): {"api_key": "${OPENAI_API_KEY}"}}


async def test_no_more_than_fifty_options_are_taken(tmp_path):
    text = json.dumps({f"o{number}": number for number in range(52)})
    found = await planned(
        tmp_path, models=[{"model_id": "m", "extra_config": text}], yaml="providers: {openai: {}}"
    )
    assert len(values(found)["models", "llm", "m"]) == 52  # provider, model and fifty options
    assert [item.id for item in found.skipped] == ["m.o50", "m.o51"]


async def test_models_lead_to_a_provider_or_are_skipped_with_the_reason(tmp_path):
    found = await planned(
        tmp_path,
        "providers: {deepgram: {}}\nmodels: {stt: {taken: {provider: deepgram}}}",
        providers=[{"provider_id": "openai"}],
        models=[
            {"model_id": "a", "default_voice": "ash", "modality": "tts"},
            {"model_id": "b", "provider_id": "deepgram", "modality": "stt"},
            {"model_id": "c", "provider_id": "cartesia"},
            {"model_id": "d", "modality": "video"},
            {"model_id": "e", "display_name": "a\x1b[31m"},
            {"model_id": "taken"},
        ],
    )
    assert values(found) == {
        ("providers", "openai"): {"api_key": "${OPENAI_API_KEY}"},
        ("models", "tts", "a"): {"provider": "openai", "model": "gpt-4o", "default_voice": "ash"},
        ("models", "stt", "b"): {"provider": "deepgram", "model": "gpt-4o"},
    }
    assert found.kept == ("model taken",)
    assert found.skipped == (
        Skipped("model", "c", "Its provider 'cartesia' is neither in the file nor imported."),
        Skipped("model", "d", "Its modality 'video' is none of stt, llm, tts."),
        Skipped("model", "e", "Its display_name holds control characters."),
    )


async def test_projects_name_what_there_is_or_are_skipped_with_the_reason(tmp_path):
    found = await planned(
        tmp_path,
        "providers: {openai: {}}\nmodels: {llm: {in-file: {provider: openai}}}\nstacks: {fast: {llm: in-file}}\n"
        "projects: {there: {name: There}}",
        models=[{"model_id": "imported"}],
        projects=[
            {"project_id": "a", "default_stack": "fast"},
            {"project_id": "b", "llm_model": "in-file", "name": " ", "tags": '["x"]'},
            {"project_id": "c", "llm_model": "imported", "description": "two\nlines"},
            {"project_id": "d", "default_stack": "slow"},
            {"project_id": "e", "tts_model": "nope"},
            {"project_id": "f", "stt_model": "in-file"},
            {"project_id": "g", "daily_budget": -1},
            {"project_id": "h", "daily_budget": float("inf")},
            {"project_id": "i", "budget_action": "explode"},
            {"project_id": "j", "tags": '"prod"'},
            {"project_id": "k", "tags": '["prod", 1]'},
            {"project_id": "l", "tags": '[""]'},
            {"project_id": "m", "name": "n" * 2001},
            {"project_id": "n", "tags": "nonsense"},
            {"project_id": "there"},
        ],
    )
    assert {path[-1]: value for path, value in values(found).items() if path[0] == "projects"} == {
        "a": {"name": "P", "default_stack": "fast"},
        "b": {"name": "b", "llm_model": "in-file", "tags": ["x"]},
        "c": {"name": "P", "llm_model": "imported", "description": "two\nlines"},
    }
    assert found.kept == ("project there",)
    assert {item.id: item.reason for item in found.skipped} == {
        "d": "Its stack 'slow' is not in the file.",
        "e": "Its tts_model 'nope' is neither in the file nor imported.",
        "f": "Its stt_model 'in-file' is a model of llm, not stt.",
        "g": "Its daily budget is not a number of at least 0.",
        "h": "Its daily budget is not a number of at least 0.",
        "i": "Its budget action 'explode' is none of warn, throttle, block.",
        "j": "Its tags are not a list of at most 20 texts.",
        "k": "One of its tags is not a text of 1 to 64 characters.",
        "l": "One of its tags is not a text of 1 to 64 characters.",
        "m": "Its name is longer than 2000 characters.",
        "n": "Its tags are not a list of at most 20 texts.",
    }


async def test_the_default_project_is_imported_only_when_someone_changed_it(tmp_path):
    untouched = {"project_id": "default", "name": "Default", "description": "Auto-created on first run."}
    found = await planned(tmp_path, projects=[untouched])
    assert found == EntryPlan(plan=None, added=(), kept=(), skipped=(), secrets=())
    found = await planned(tmp_path, projects=[untouched | {"daily_budget": 3}])
    assert found.added == ("project default",)
    assert values(found)["projects", "default"]["daily_budget"] == 3.0
    (tmp_path / "voicegw.yaml").write_text("projects: {default: {name: Ours}}")
    found = await planned(tmp_path, projects=[untouched | {"daily_budget": 3}])
    assert found.kept == ("project default",)


async def test_more_entries_than_one_change_takes_come_with_the_next_import(tmp_path, monkeypatch):
    monkeypatch.setattr(imports, "_MOST_AT_ONCE", 2)
    source = managed(tmp_path, providers=[{"provider_id": id_} for id_ in "abc"])
    async with opened(tmp_path) as gateway, open_source(source) as store:
        first, _ = await import_entries(gateway, store, dry_run=False)
        second, _ = await import_entries(gateway, store, dry_run=False)
    assert [item.id for item in first.skipped] == ["c"]
    assert (second.added, second.kept, second.skipped) == (("provider c",), ("provider a", "provider b"), ())
