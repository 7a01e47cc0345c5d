"""Run as a process of its own: how far its memory rises over the model's when many long rows run.

The forward pass is left out (it writes zeros as keys and values), so that what is seen in seconds is the memory of
keys, values, prefixes and trees. Prints one JSON object, in bytes.
"""

import json
import re
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from sampler.engine import EngineOptions, load_engine
from sampler.params import PowerParams
from tests.bench.chains import run_chains

WARM_UP = PowerParams(16, blocks=1, steps_per_block=1)


def resident() -> int:
    """Bytes of this process in memory."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1)) * 1024


def empty_passes(model: Any) -> None:
    """Let a forward pass write zeros and return noise."""
    layers, heads, size, dtype, _ = model.cache._shape
    noise = torch.Generator().manual_seed(0)

    def forward(input_ids: torch.Tensor, past_key_values: Any, **_: Any) -> Any:
        rows, tokens = input_ids.shape
        values = torch.zeros((rows, heads, tokens, size), dtype=dtype)
        for layer in range(layers):
            past_key_values.update(values, values, layer)
        width = model.network.config.hidden_size
        return SimpleNamespace(last_hidden_state=torch.randn((rows, tokens, width), generator=noise).to(dtype))

    type(model.network).base_model = property(lambda self: forward)


def main(bound: int, prompts: int, length: int, chains: int, tokens: int, steps: int) -> None:
    """Chains of two blocks on prompts of `length` tokens, under a bound on keys and values."""
    torch.set_num_threads(1)
    engine: Any = load_engine("transformers", EngineOptions(dtype="bf16", kv_cache_bytes=bound))
    run_chains(engine, [tuple(range(10, 40))], WARM_UP, 5)
    base, peak, done = resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    empty_passes(engine.worker.model)
    texts = [tuple((31 * i + 17 * row) % 40_000 for i in range(length)) for row in range(prompts)]
    run_chains(engine, texts, PowerParams(tokens, blocks=2, steps_per_block=steps), 5, n=chains)
    done.set()
    watcher.join()
    engine.worker.close()
    print(json.dumps({"bound": bound, "rise": peak - base}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
