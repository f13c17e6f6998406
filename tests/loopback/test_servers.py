"""What the loopback servers promise to tests: keys in each provider's form, faults as they were said, a log, a process of their own."""

import asyncio
import json
import sys
from pathlib import Path

import aiohttp
import pytest
from tests.fake_providers import EXPECTED
from tests.loopback import PROVIDERS, Fault, OpenAI

ROOT = Path(__file__).resolve().parents[2]
CHAT = {"model": "gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": "hello"}]}


async def post_chat(session, base_url, key):
    headers = {"Authorization": f"Bearer {key}"}
    async with session.post(f"{base_url}/chat/completions", json=CHAT, headers=headers) as answer:
        return answer.status, dict(answer.headers), await answer.text()


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_key_counts_in_the_providers_own_form_only(name):
    expected = EXPECTED[name]
    async with PROVIDERS[name]("the-key") as server, aiohttp.ClientSession() as session:

        async def status(value, extra=expected.extra):
            headers = {expected.header: value, **extra}
            async with session.get(server.origin + expected.path, headers=headers) as answer:
                return answer.status

        assert await status(expected.value.format(key="the-key")) == 200
        if name == "ollama":
            return
        assert await status(expected.value.format(key="other-key")) == 401
        assert await status(f"Basic {expected.value.format(key='the-key')}") == 401
        assert (await status(expected.value.format(key="the-key"), {}) == 200) == (not expected.extra)
        server.rotate("other-key")
        assert await status(expected.value.format(key="the-key")) == 401
        assert await status(expected.value.format(key="other-key")) == 200
        assert [call.accepted for call in server.calls] == [
            True,
            False,
            False,
            not expected.extra,
            False,
            True,
        ]
        assert "-key" not in repr(server.calls)


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize("status", [401, 402, 404, 408, 429, 500, 503])
async def test_a_status_comes_with_the_providers_own_body(name, status):
    async with PROVIDERS[name]() as server, aiohttp.ClientSession() as session:
        server.faults.next(Fault(status=status, retry_after=2.5))
        async with session.get(server.origin + EXPECTED[name].path) as answer:
            assert answer.status == status
            assert answer.headers["Retry-After"] == "2.5"
            body = await answer.json()
    assert {"error", "err_code", "error_code", "detail"} & set(body)


async def test_faults_come_in_the_order_they_were_said_and_only_at_their_door():
    async with OpenAI() as server, aiohttp.ClientSession() as session:
        server.faults.next(Fault(status=500), door="speech")
        server.faults.next(Fault(status=503), times=2, door="chat")
        server.faults.next(Fault(status=429))
        seen = [(await post_chat(session, server.base_url, server.key))[0] for _ in range(4)]
        assert seen == [503, 503, 429, 200]
        async with session.post(f"{server.base_url}/audio/speech", json={}) as answer:
            assert answer.status == 500


async def test_a_plan_chooses_by_the_number_of_the_request():
    async with OpenAI() as server, aiohttp.ClientSession() as session:
        server.faults.plan(lambda call: Fault(status=503) if call.number % 3 == 0 else None)
        seen = [(await post_chat(session, server.base_url, server.key))[0] for _ in range(6)]
        assert seen == [200, 200, 503, 200, 200, 503]
        server.faults.plan(None)
        for _ in range(3):
            assert (await post_chat(session, server.base_url, server.key))[0] == 200
        assert [call.number for call in server.of("chat")] == list(range(1, 10))


async def test_a_cut_answer_holds_what_was_sent_before_it():
    async with OpenAI() as server, aiohttp.ClientSession() as session:
        whole = (await post_chat(session, server.base_url, server.key))[2].split("\n\n")
        server.faults.next(Fault(cut_after=2))
        headers = {"Authorization": f"Bearer {server.key}"}
        address = f"{server.base_url}/chat/completions"
        got = bytearray()

        async def read(answer):
            async for piece in answer.content.iter_any():
                got.extend(piece)

        async with session.post(address, json=CHAT, headers=headers) as answer:
            with pytest.raises(aiohttp.ClientPayloadError):
                await read(answer)
        assert [json.loads(event[6:])["choices"] for event in got.decode().split("\n\n")[:-1]] == [
            json.loads(event[6:])["choices"] for event in whole[:2]
        ]
        assert [call.finished for call in server.calls] == [True, False]


async def test_256_calls_at_once_are_answered():
    connector = aiohttp.TCPConnector(limit=0)
    async with OpenAI() as server, aiohttp.ClientSession(connector=connector) as session:
        answers = await asyncio.gather(*(post_chat(session, server.base_url, server.key) for _ in range(256)))
    assert {status for status, _, _ in answers} == {200}
    assert len(server.calls) == 256
    assert all(call.finished for call in server.calls)


async def test_closing_a_server_hangs_up_on_those_who_wait():
    async with aiohttp.ClientSession() as session:
        async with OpenAI() as server:
            server.faults.next(Fault(hang=True))
            waiting = asyncio.create_task(post_chat(session, server.base_url, server.key))
            await server.arrival("chat")
        with pytest.raises(aiohttp.ClientError):
            await asyncio.wait_for(waiting, 20)


async def test_servers_run_in_a_process_of_their_own_and_are_told_what_to_do():
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.loopback", "openai", "groq"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        told = json.loads(line)
        assert set(told) == {"openai", "groq"}
        base_url, origin, key = (told["openai"][name] for name in ("base_url", "origin", "key"))
        async with aiohttp.ClientSession() as session:
            fault = {"fault": {"status": 503}, "times": 1, "door": "chat"}
            async with session.post(f"{origin}/_loopback/faults", json=fault) as answer:
                assert answer.status == 204
            assert [(await post_chat(session, base_url, key))[0] for _ in range(2)] == [503, 200]
            async with session.post(f"{origin}/_loopback/key", json={"key": "another"}) as answer:
                assert answer.status == 204
            assert (await post_chat(session, base_url, key))[0] == 401
            async with session.get(f"{origin}/_loopback/calls") as answer:
                calls = await answer.json()
        assert [(call["accepted"], call["finished"]) for call in calls] == [
            (True, False),
            (True, True),
            (False, False),
        ]
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
