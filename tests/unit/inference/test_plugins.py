import asyncio
import gc
import os
import subprocess
import sys
import threading

import pytest

from voicegw_mcp import inference
from voicegw_mcp.errors import InvalidInput, NotFound
from voicegw_mcp.inference import plugins


def run(program, **environment):
    """Run a program in a fresh interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# A finder in front of all others that knows nothing of some modules, as if they were not installed.
HIDE = """
import importlib.machinery, sys
class Hidden:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in HIDDEN:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden)
"""


@pytest.mark.cover_processes
def test_without_livekit_the_import_names_the_extra():
    out = run(
        "HIDDEN = {'livekit'}" + HIDE + "try:\n    from voicegw_mcp import inference\n"
        "except ImportError as error:\n    print(error.name, error)"
    )
    assert out.startswith("livekit.agents voicegw_mcp.inference needs LiveKit Agents.")
    assert "pip install 'voicegw-mcp[inference]'" in out


@pytest.mark.cover_processes
def test_without_livekit_no_plugin_is_found():
    assert run(
        "import voicegw_mcp.inference.plugins as p\nHIDDEN = {'livekit', 'livekit.plugins'}"
        + HIDE
        + "sys.modules.pop('livekit', None), sys.modules.pop('livekit.plugins', None)\n"
        "print(p.installed_plugins())"
    ) == ("[]\n")


def test_a_missing_plugin_names_its_extra(configure):
    configure("providers:\n  lmnt: {api_key: k}\n  microsoft_ai: {api_key: k}\n")
    for provider, extra in (("lmnt", "lmnt"), ("microsoft_ai", "microsoft-ai")):
        if plugins.is_installed(provider):  # pragma: no cover - in an environment with all plugins
            pytest.skip("all plugins are installed here")
        with pytest.raises(ImportError) as caught:
            inference.TTS(f"{provider}/model")
        assert f"pip install 'voicegw-mcp[{extra}]'" in str(caught.value)
        assert caught.value.name == f"livekit.plugins.{provider}"


@pytest.mark.cover_processes
def test_installed_plugins_are_found_without_loading_one():
    out = run(
        "import sys\nfrom voicegw_mcp.inference import plugins\n"
        "print('deepgram' in plugins.installed_plugins(), plugins.is_installed('cartesia'), 'livekit.agents' in sys.modules)"
    )
    assert out == "True True False\n"


@pytest.mark.cover_processes
def test_an_installed_plugin_that_is_no_provider_type_is_used_by_its_name(tmp_path):
    plugin = tmp_path / "livekit" / "plugins" / "brandnew"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text(
        "from livekit.agents import tts\n"
        "class TTS(tts.TTS):\n"
        "    def __init__(self, *, speaker='a', model_name='m', api_key=None, base_url=''):\n"
        "        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=8000, num_channels=1)\n"
        "        self.made = (speaker, model_name, api_key, base_url)\n"
        "    def synthesize(self, text, *, conn_options=None): ...\n"
    )
    (tmp_path / "voicegw.yaml").write_text(
        "providers:\n  brandnew: {api_key: '${KEY}', base_url: 'https://x.example/v9'}\n"
    )
    out = run(
        "from voicegw_mcp import inference\nprint(inference.TTS('brandnew/one:bob').made)",
        PYTHONPATH=str(tmp_path),
        VOICEGW_CONFIG=str(tmp_path / "voicegw.yaml"),
        KEY="k",
    )
    assert out == "('bob', 'one', 'k', 'https://x.example')\n"


FILE = """
providers:
  deepgram: {}
  groq: {}
  openai: {enabled: false}
  lmnt: {}
models:
  stt: {"deepgram/nova-3": {provider: deepgram}}
  llm: {"groq/llama": {provider: groq}, "openai/gpt": {provider: openai}}
  tts: {"lmnt/blizzard": {provider: lmnt}}
stacks:
  ears: {stt: deepgram/nova-3}
"""

# Prints whether the loop turned while plugins were loaded, how often everything was searched for garbage (which stops
# all threads), what was loaded and how many registered.
PRELOAD = """
import asyncio, gc, sys
from voicegw_mcp import inference
async def main():
    turns, whole = 0, 0
    def count(phase, about):
        nonlocal whole
        importing = "livekit.agents" in sys.modules and not gc.get_freeze_count()
        whole += phase == "start" and about["generation"] == 2 and importing
    async def turn():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1
    turning = asyncio.create_task(turn())
    gc.callbacks.append(count)
    await inference.preload()
    turning.cancel()
    gc.callbacks.remove(count)
    loaded = sorted(n.rpartition('.')[2] for n in sys.modules if n.startswith('livekit.plugins.') and n.count('.') == 2)
    from livekit.agents import Plugin
    print(turns > 100, whole, *loaded, len(Plugin.registered_plugins))
    import livekit.plugins.openai
    print(livekit.plugins.openai.llm.LLM is livekit.plugins.openai.LLM)
    print(type(inference.STT('deepgram/nova-3')).__module__)
asyncio.run(main())
"""


@pytest.mark.cover_processes
def test_preloading_keeps_the_loop_turning_and_registers_all(tmp_path):
    path = tmp_path / "voicegw.yaml"
    path.write_text(FILE)
    out = run(PRELOAD, VOICEGW_CONFIG=str(path), DEEPGRAM_API_KEY="k")
    # groq's plugin loads openai's, which registers itself; lmnt is not installed, openai is switched off.
    assert out.splitlines() == ["True 0 deepgram groq openai 3", "True", "livekit.plugins.deepgram.stt"]


async def test_preloading_tells_of_what_is_not_there(configure):
    configure(FILE)
    await inference.preload("ears", "deepgram")
    await inference.preload()
    with pytest.raises(NotFound, match="eras"):
        await inference.preload("eras")
    if not plugins.is_installed("lmnt"):
        with pytest.raises(ImportError, match=r"voicegw-mcp\[lmnt\]"):
            await inference.preload("lmnt")


def test_garbage_is_looked_for_again_after_preloading(configure):
    configure(FILE)
    asyncio.run(inference.preload("ears"))
    assert gc.isenabled()


def test_a_plugin_is_not_imported_in_another_thread(tmp_path):
    path = tmp_path / "voicegw.yaml"
    path.write_text(FILE)
    out = run(
        "import threading, sys\nfrom voicegw_mcp import inference\n"
        "def work():\n    try:\n        inference.STT('deepgram/nova-3')\n"
        "    except Exception as error:\n        print(type(error).__name__, *error.__notes__)\n"
        "def made(): print(type(inference.STT('deepgram/nova-3')).__name__)\n"
        "for target in (work, None, made):\n"
        "    if target is None:\n        made()\n        continue\n"
        "    thread = threading.Thread(target=target); thread.start(); thread.join()\n",
        VOICEGW_CONFIG=str(path),
        DEEPGRAM_API_KEY="k",
    )
    first, *others = out.splitlines()
    assert first.startswith("InvalidInput Call `await inference.preload()` in the main thread first")
    assert others == ["STT", "STT"]


@pytest.mark.usefixtures("keys")
def test_a_loaded_plugin_serves_every_thread(configure):
    configure(FILE)
    inference.STT("deepgram/nova-3")
    made = []
    thread = threading.Thread(target=lambda: made.append(inference.STT("deepgram/nova-3")))
    thread.start()
    thread.join()
    assert len(made) == 1


def test_a_modality_that_no_class_serves_is_refused(configure):
    configure(FILE)
    with pytest.raises(InvalidInput, match="type 'groq'") as caught:
        plugins.load_class("groq", "video", "x")
    assert "They have llm and stt and tts." in caught.value.hint
