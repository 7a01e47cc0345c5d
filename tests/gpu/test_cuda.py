"""On a GPU: the same statistics as on the CPU, and the same chains up to rare flips of float32."""

import copy

import numpy as np
import pytest
import torch

from sampler.engines.transformers.engine import TransformersEngine
from sampler.engines.transformers.model import wrap
from sampler.params import PowerParams
from tests.engines.models import tiny_engine, tiny_llama
from tests.engines.test_statistics import assert_agrees, run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine")

PROMPTS = [(3, 1, 4, 1, 5), (9, 2, 6), (5,), tuple(range(40, 80))]
PARAMS = PowerParams(24, alpha=2.0, blocks=3, steps_per_block=6, top_k=20)


def cuda_engine() -> TransformersEngine:
    """The tiny model of the CPU tests, on the GPU."""
    model = tiny_llama(torch.float32)
    network = copy.deepcopy(model.network).to("cuda")
    cpu = tiny_engine(torch.float32)
    cpu.worker.close()
    return TransformersEngine(wrap(network, network.config, model.eos_ids), cpu.tokenizer, "tiny")


def test_statistics_on_the_gpu_agree_with_a_plain_forward_pass() -> None:
    engine = cuda_engine()
    for prompt, answer in zip(PROMPTS, run(engine, PROMPTS, PARAMS, seed=5), strict=True):
        assert_agrees(engine, prompt, answer, PARAMS, 1e-3)
    engine.worker.close()


def test_chains_on_the_gpu_are_those_of_the_cpu_up_to_flips() -> None:
    gpu, cpu = cuda_engine(), tiny_engine(torch.float32)
    pairs = zip(run(gpu, PROMPTS, PARAMS, 5), run(cpu, PROMPTS, PARAMS, 5), strict=True)
    same = [a.trace.ids == b.trace.ids and np.allclose(a.trace.log_z, b.trace.log_z, atol=1e-3) for a, b in pairs]
    assert sum(same) >= len(same) - 1
    gpu.worker.close()
    cpu.worker.close()
