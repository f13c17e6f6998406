from tests.protocol.agents import FILE

PRICED = "pricing:\n  deepgram/nova-3: {per_minute: 0.0043, effective: 2026-01-02}\n"


async def test_registering_a_model_writes_its_entry_under_the_default_id(agent, house):
    answer = await agent.ok(
        "register_model",
        modality="tts",
        provider_id="deepgram",
        model_name="aura-2",
        default_voice="thalia",
        display_name="Aura 2",
        config={"speed": 1.2},
    )
    assert answer["model_id"] == "deepgram/aura-2"
    assert (answer["created"], answer["updated"], answer["enabled"]) == (True, False, True)
    assert (answer["default_voice"], answer["display_name"], answer["source"]) == ("thalia", "Aura 2", "yaml")
    new = house.lines[house.lines.index("    deepgram/aura-2:") :][:6]
    assert [line.strip() for line in new] == [
        "deepgram/aura-2:",
        "provider: deepgram",
        "model: aura-2",
        "display_name: Aura 2",
        "default_voice: thalia",
        "speed: 1.2",
    ]
    (row,) = house.journal("tool, summary, state")
    assert row == ("register_model", "Register tts model deepgram/aura-2", "applied")


async def test_a_dry_run_of_register_model_answers_the_same_diff(agent, house):
    before = house.state()
    arguments = {"modality": "llm", "provider_id": "openai", "model_name": "gpt-5"}
    planned = await agent.ok("register_model", **arguments, dry_run=True)
    assert house.state() == before
    assert (await agent.ok("register_model", **arguments))["diff"] == planned["diff"]


async def test_a_model_id_is_unique_over_all_modalities(agent, house):
    before = house.state()
    error = await agent.refused("register_model", modality="llm", provider_id="deepgram", model_name="nova-3")
    assert error["code"] == "MODEL_ALREADY_EXISTS"
    assert "as stt" in error["message"]
    moved = await agent.refused(
        "register_model",
        modality="llm",
        provider_id="deepgram",
        model_name="nova-3",
        on_conflict="update",
    )
    assert moved["code"] == "CONFLICT"
    assert house.state() == before


async def test_on_conflict_update_changes_only_the_lines_that_differ(agent, house):
    answer = await agent.ok(
        "register_model",
        modality="tts",
        provider_id="openai",
        model_name="tts-1",
        enabled=True,
        on_conflict="update",
    )
    assert (answer["created"], answer["updated"], answer["enabled"]) == (False, True, True)
    assert [line for line in house.lines if line not in FILE.splitlines()] == ["      enabled: true"]
    assert [line for line in FILE.splitlines() if line not in house.lines] == ["      enabled: false"]


async def test_a_disabled_model_is_registered_as_such_and_listed_only_on_request(agent):
    await agent.ok(
        "register_model",
        modality="llm",
        provider_id="openai",
        model_name="gpt-5",
        enabled=False,
        model_id="big",
    )
    listed = await agent.ok("list_models")
    assert [model["model_id"] for model in listed["models"]] == [
        "deepgram/nova-3",
        "ollama/qwen3",
        "openai/gpt-4.1-mini",
    ]
    everything = await agent.ok("list_models", enabled_only=False)
    assert {"big", "openai/tts-1"} <= {model["model_id"] for model in everything["models"]}
    assert everything["count"] == len(everything["models"]) == 5


async def test_models_are_listed_by_modality_and_provider(agent):
    async def ids(**filters):
        return [model["model_id"] for model in (await agent.ok("list_models", **filters))["models"]]

    assert await ids(modality="stt") == ["deepgram/nova-3"]
    assert await ids(provider_id="openai", enabled_only=False) == ["openai/gpt-4.1-mini", "openai/tts-1"]
    assert await ids(provider_id="openai", modality="stt") == []
    error = await agent.refused("list_models", provider_id="opnai")
    assert (error["code"], error["details"]["nearest"]) == ("PROVIDER_NOT_FOUND", ["openai"])


async def test_full_detail_adds_prices_with_source_and_date_and_concise_has_none(agent, house):
    house.write(FILE + PRICED)
    concise = await agent.ok("list_models")
    assert not [model for model in concise["models"] if "price" in model]
    full = {model["model_id"]: model for model in (await agent.ok("list_models", detail="full"))["models"]}
    own = full["deepgram/nova-3"]["price"]
    assert (own["usd_per_minute"], own["date"]) == (0.0043, "2026-01-02")
    published = full["openai/gpt-4.1-mini"]["price"]
    assert published["usd_per_million_input_tokens"] > 0
    assert published["source"]


async def test_registering_answers_the_price_when_it_is_known(agent):
    known = await agent.ok("register_model", modality="llm", provider_id="openai", model_name="gpt-4.1")
    assert known["price"]["usd_per_million_input_tokens"] > 0
    unknown = await agent.ok(
        "register_model", modality="llm", provider_id="openai", model_name="nobody-knows-this"
    )
    assert "price" not in unknown


async def test_deleting_a_model_tells_its_impact_then_refuses_while_it_is_named_then_cascades(agent, house):
    impact = {
        "projects_affected": ["outbound"],
        "stacks_affected": [],
        "fallbacks_affected": ["llm"],
    }
    before = house.state()
    error = await agent.refused("delete_model", model_id="ollama/qwen3")
    version = error["details"].pop("config_version")
    assert (error["code"], error["details"]) == ("CONFIRMATION_REQUIRED", impact)
    error = await agent.refused("delete_model", model_id="ollama/qwen3", confirm=True)
    assert (error["code"], error["details"]) == ("CONFLICT", impact)
    assert "projects outbound" in error["message"]
    assert "fallbacks llm" in error["message"]
    assert house.state() == before
    answer = await agent.ok(
        "delete_model", model_id="ollama/qwen3", confirm=True, cascade=True, if_version=version
    )
    assert {key: answer[key] for key in impact} == impact
    gone = [line.strip() for line in FILE.splitlines() if line not in house.lines]
    assert gone == [
        "ollama/qwen3:",
        "provider: ollama",
        "model: qwen3",
        "llm: [openai/gpt-4.1-mini, ollama/qwen3]  # local last",
        "llm_model: ollama/qwen3",
    ]
    assert [line for line in house.lines if line not in FILE.splitlines()] == [
        "  llm: [openai/gpt-4.1-mini]  # local last"
    ]


async def test_the_last_model_of_a_stack_and_chain_leaves_a_valid_file(agent, house):
    house.write(
        "providers: {openai: {}}\nmodels:\n  llm:\n    m: {provider: openai}\n"
        "stacks:\n  only:\n    llm: m\nfallbacks:\n  llm:\n    - m\nprojects:\n  p: {name: P, llm_model: m}\n"
    )
    answer = await agent.ok("delete_model", model_id="m", confirm=True, cascade=True)
    assert (answer["stacks_affected"], answer["fallbacks_affected"]) == (["only"], ["llm"])
    health = await agent.ok("get_health")
    assert (health["status"], health["model_count"], health["project_count"]) == ("ok", 0, 2)
    assert "llm_model" not in await agent.ok("get_project", project_id="p")


async def test_a_deleted_model_is_not_found_with_near_names(agent):
    await agent.ok("delete_model", model_id="ollama/qwen3", confirm=True, cascade=True)
    error = await agent.refused("delete_model", model_id="ollama/qwen3", confirm=True)
    assert error["code"] == "MODEL_NOT_FOUND"
    error = await agent.refused("delete_model", model_id="deepgram/nova-2", confirm=True)
    assert error["details"]["nearest"][0] == "deepgram/nova-3"


async def test_a_model_without_a_name_in_the_file_has_the_one_its_id_says(agent, house):
    house.write("providers: {ollama: {}}\nmodels: {tts: {local/kokoro: {provider: ollama}}}\n")
    (model,) = (await agent.ok("list_models"))["models"]
    assert (model["model_name"], model["provider_id"]) == ("kokoro", "ollama")
