"""`powercut plan` warns of the rows that vLLM runs when nobody says how many: that number must be vLLM's own."""

import inspect

from service.capacity.limits import VLLM_ROWS


def test_an_engine_started_as_ours_runs_so_many_rows_by_default() -> None:
    from vllm.config.scheduler import SchedulerConfig  # pyright: ignore[reportMissingImports]
    from vllm.engine.arg_utils import EngineArgs  # pyright: ignore[reportMissingImports]
    from vllm.v1.engine.async_llm import AsyncLLM  # pyright: ignore[reportMissingImports]

    context = inspect.signature(AsyncLLM.from_engine_args).parameters["usage_context"].default
    _, by_context = EngineArgs.get_batch_defaults(1)
    assert by_context.get(context, SchedulerConfig.DEFAULT_MAX_NUM_SEQS) == VLLM_ROWS
