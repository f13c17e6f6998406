"""The packages behind local models: told by their extra when missing, imported only when they are needed."""

import subprocess
import sys

import pytest

FILE = """
providers:
  whisper: {}
  kokoro: {}
  piper: {}
  box: {type: whisper, base_url: "http://127.0.0.1:1/v1"}
models:
  stt:
    whisper/base: {provider: whisper, model: base}
"""

PACKAGES = {"whisper": "faster_whisper", "kokoro": "kokoro_onnx", "piper": "piper"}


def run(tmp_path, code):
    """Run code in a process of its own, with a voicegw.yaml."""
    (tmp_path / "voicegw.yaml").write_text(FILE)
    begin = (
        "import asyncio, sys\nfrom voicegw_mcp import inference\n"
        f"inference.configure({str(tmp_path / 'voicegw.yaml')!r})\n"
    )
    return subprocess.run(
        [sys.executable, "-c", begin + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )


@pytest.mark.cover_processes
@pytest.mark.parametrize(("name", "make"), [("whisper", "STT"), ("kokoro", "TTS"), ("piper", "TTS")])
def test_a_missing_package_is_an_import_error_that_names_the_extra(tmp_path, name, make):
    done = run(
        tmp_path,
        f"""
sys.modules[{PACKAGES[name]!r}] = None
for attempt in (lambda: inference.{make}("{name}/model"), lambda: asyncio.run(inference.preload("{name}/model"))):
    try:
        attempt()
    except ImportError as error:
        print(error.name, error)
asyncio.run(inference.preload())
""",
    )
    told = [line for line in done.stdout.splitlines() if line]
    assert len(told) == 2, done.stderr
    for line in told:
        assert line.startswith(f"{PACKAGES[name]} Provider type {name} runs in this process")
        assert f"pip install 'voicegw-mcp[{name}]'" in line


@pytest.mark.cover_processes
def test_preload_imports_the_package_and_no_plugin_of_a_server(tmp_path):
    done = run(
        tmp_path,
        """
loaded = lambda: [name for name in ("faster_whisper", "livekit.plugins.openai", "piper") if name in sys.modules]
print(loaded())
asyncio.run(inference.preload())
print(loaded())
asyncio.run(inference.preload("box/base"))
print(loaded())
""",
    )
    assert done.stdout.splitlines() == [
        "[]",
        "['faster_whisper']",
        "['faster_whisper', 'livekit.plugins.openai']",
    ], done.stderr


def test_making_an_instance_imports_no_package(tmp_path):
    done = run(
        tmp_path,
        f"""
inference.STT("whisper/base")
print([name for name in {[*PACKAGES.values(), "ctranslate2", "onnxruntime"]} if name in sys.modules])
""",
    )
    assert done.stdout == "[]\n", done.stderr
