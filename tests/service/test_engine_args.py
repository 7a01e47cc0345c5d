import pytest

from sampler.errors import InvalidParams
from service.engine_args import engine_args


def test_options_of_the_library_keep_their_names_and_values() -> None:
    words = ["--tensor-parallel-size", "2", "--max-model-len=4096", "--enforce-eager", "--quantization", "fp8"]
    assert engine_args(words) == {
        "tensor_parallel_size": "2",
        "max_model_len": "4096",
        "enforce_eager": True,
        "quantization": "fp8",
    }
    assert engine_args([]) is None


def test_a_stray_word_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidParams, match="'stray'"):
        engine_args(["--a=1", "stray"])
