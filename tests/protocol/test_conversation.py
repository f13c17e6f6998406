"""The whole conversation of an agent in both eras of the protocol, and two servers on the same files."""

import asyncio
import json
import subprocess
import sys
import textwrap
import threading

import anyio
import pytest
from tests.factories import request_record
from tests.fake_providers import KEY, provider, serving
from tests.protocol.agents import ERAS, FILE

STEPS = 11


@pytest.mark.parametrize("era", ERAS)
async def test_an_agent_sets_a_gateway_up_sees_what_calls_cost_and_takes_it_down_again(house, era):
    before = FILE + "security: {allow_private_hosts: [127.0.0.1]}\n"
    house.write(before)
    house.environment["GROQ_API_KEY"] = KEY
    with serving(provider("groq")) as server:
        async with house.agent(mode=era) as agent:
            assert len((await agent.client.list_tools()).tools) == 17
            base = f"{server.url}/openai/v1"
            added = await agent.ok("add_provider", provider_id="fast", provider_type="groq", base_url=base)
            assert (await agent.ok("test_provider", provider_id="fast"))["status"] == "ok"
            model = await agent.ok(
                "register_model",
                modality="llm",
                provider_id="fast",
                model_name="llama-3.3-70b-versatile",
                if_version=added["config_version"],
            )
            await agent.ok(
                "create_project",
                project_id="trial",
                name="Trial",
                llm_model=model["model_id"],
                daily_budget=1,
            )
            await house.log(
                request_record(
                    project="trial", provider="fast", model_id=model["model_id"], cost_nanousd=900_000_000
                )
            )
            shown = await agent.ok("get_project", project_id="trial")
            assert (shown["today_spend"], shown["budget_status"]) == (0.9, "warning")
            (entry,) = (await agent.ok("get_logs", project="trial"))["logs"]
            assert entry["cost_usd"] == 0.9
            costs = await agent.ok("get_costs", group_by="model")
            assert costs["total_usd"] == 0.9
            assert costs["groups"] == [{"key": model["model_id"], "cost": 0.9, "requests": 1}]
            previews = [
                await agent.refused("delete_project", project_id="trial"),
                await agent.refused("delete_model", model_id=model["model_id"]),
                await agent.refused("delete_provider", provider_id="fast"),
            ]
            assert {error["code"] for error in previews} == {"CONFIRMATION_REQUIRED"}
            await agent.ok("delete_project", project_id="trial", confirm=True)
            await agent.ok("delete_model", model_id=model["model_id"], confirm=True)
            await agent.ok("delete_provider", provider_id="fast", confirm=True)
    assert house.text == before
    rows = house.journal("tool, state, door")
    assert [row[0] for row in rows] == [
        "add_provider",
        "register_model",
        "create_project",
        "delete_project",
        "delete_model",
        "delete_provider",
    ]
    assert {row[1:] for row in rows} == {("applied", "test")}


async def test_two_servers_on_the_same_files_see_each_other_s_changes_at_once(house):
    async with house.agent(door="one") as one, house.agent(door="two") as two:
        for n in range(5):
            here, there = (one, two) if n % 2 else (two, one)
            written = await here.ok("create_project", project_id=f"p{n}", name=f"P {n}")
            seen = await there.ok("get_project", project_id=f"p{n}")
            assert seen["config_version"] == written["config_version"]
            for agent in (here, there):
                error = await agent.refused("create_project", project_id=f"p{n}", name="Other")
                assert error["code"] == "PROJECT_ALREADY_EXISTS"
        await house.log(request_record(project="p0", cost_nanousd=5))
        assert (await one.ok("get_project", project_id="p0"))["today_requests"] == 1
        assert (await two.ok("get_project", project_id="p0"))["today_requests"] == 1
    assert {door for (door,) in house.journal("door")} == {"one", "two"}


async def test_a_hand_edit_of_the_file_shows_in_the_next_call_even_when_its_size_stays(agent, house):
    names = []
    for name in ("Aaa", "Bbb", "Ccc"):
        house.write(f"projects: {{p: {{name: {name}}}}}\n")
        names.append((await agent.ok("get_project", project_id="p"))["name"])
    assert names == ["Aaa", "Bbb", "Ccc"]


async def test_parallel_changes_of_one_server_all_land(agent, house):
    async with anyio.create_task_group() as tasks:
        for n in range(12):
            arguments = {"project_id": f"p{n}", "name": f"P {n}"}
            tasks.start_soon(lambda arguments=arguments: agent.ok("create_project", **arguments))
            arguments = {"project_id": f"d{n}", "name": "Dry", "dry_run": True}
            tasks.start_soon(lambda arguments=arguments: agent.ok("create_project", **arguments))
    listed = {project["id"] for project in (await agent.ok("list_projects"))["projects"]}
    assert listed == {"default", "support-line", "outbound", *(f"p{n}" for n in range(12))}
    assert [line for line in FILE.splitlines() if line not in house.lines] == []
    assert len(house.journal()) == 12


def test_changes_of_two_servers_in_two_threads_all_land_or_are_refused_with_a_code(house):
    landed, refused, barrier = [], [], threading.Barrier(2)

    async def work(name):
        async with house.agent(door=name) as agent:
            await agent.ok("get_health")
            barrier.wait(20)
            for n in range(8):
                for project_id in (f"{name}{n}", f"both{n}"):
                    failed, answer = await agent.call(
                        "create_project", {"project_id": project_id, "name": name}
                    )
                    (refused if failed else landed).append((project_id, answer))

    threads = [threading.Thread(target=asyncio.run, args=(work(name),)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    ids = [project_id for project_id, _ in landed]
    assert len(ids) == len(set(ids))
    assert {answer["error"]["code"] for _, answer in refused} <= {
        "PROJECT_ALREADY_EXISTS",
        "CONFLICT",
        "STORE_UNAVAILABLE",
    }
    assert {f"both{n}" for n in range(8)} <= set(ids)
    assert sum(f"  {project_id}:" in house.lines for project_id in ids) == len(ids)
    assert sorted(state for (state,) in house.journal("state")) == ["applied"] * len(ids)


WRITER = """
import sys
from pathlib import Path
import anyio
from tests.protocol.agents import House

async def main(folder, name):
    async with House(Path(folder)).agent(door=name) as agent:
        await agent.ok("get_health")
        print("ready", flush=True)
        sys.stdin.readline()
        for n in range(6):
            await agent.ok("create_project", project_id=f"{name}{n}", name=name)

anyio.run(main, *sys.argv[1:])
"""


def test_changes_of_two_processes_all_land(house):
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(house.folder)]
    processes = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert sum(f"  {name}{n}:" in house.lines for name in "ab" for n in range(6)) == 12
    assert [line for line in FILE.splitlines() if line not in house.lines] == []
    assert sorted(row[0] for row in house.journal("state")) == ["applied"] * 12


async def test_the_journal_names_the_client_by_what_it_calls_itself(house):
    async with house.agent(mode="legacy") as agent:
        await agent.ok("create_project", project_id="p", name="P")
        expected = agent.client.client_info
    ((actor,),) = house.journal("actor")
    assert actor == (expected.name if expected else "mcp")
    assert json.dumps(actor)
