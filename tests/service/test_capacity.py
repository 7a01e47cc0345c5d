"""The capacity model: its limits are exact counts, its units are right, and each figure moves the way it must."""

import asyncio
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampler.engines.tabular import from_table
from sampler.errors import InvalidParams
from sampler.methods import METHODS, POWER_METHODS
from sampler.methods.job import Job
from sampler.params import PlainParams, PowerParams
from service.capacity.hardware import GPUS, gpu_of
from service.capacity.measured import SEEN, behaviour
from service.capacity.queues import erlang_c, mean_wait_s
from service.capacity.replica import LINK_DELAY_S, Efficiency, Load, Roofline
from service.capacity.shape import estimated, from_config
from service.capacity.tokens import WORST, Behaviour, Lengths, answer_cost, kept_share
from tests.service.tables import endless_table

SMALL = PowerParams(
    24, alpha=2.0, blocks=3, steps_per_block=4, top_k=None, particles=5, candidates=3, rollouts=2, tries=2, samples=3
)
PLAIN_CHAIN = replace(SMALL, early_rejection=False, memo_tree=False, prefetch=False)
USUAL = Behaviour(20.0, 0.3, 0.6, 5.0, 0.3)
SMOLLM2 = {
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
LLAMA = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}
behaviours = st.builds(
    Behaviour,
    st.floats(1.0, 24.0),
    st.floats(0.0, 1.0),
    st.none() | st.floats(0.01, 1.0),
    st.just(math.inf) | st.floats(0.0, 1000.0),
    st.floats(0.0, 0.99),
)


def drawn_by(method: str, params: PowerParams, seed: int) -> int:
    """What a real run draws on a table without ends, of rows that are all alike."""
    engine = from_table(endless_table())
    answer = asyncio.run(METHODS[method](Job(engine, (0,), params, seed)))
    return answer.usage.generated_tokens


@pytest.mark.parametrize("method", POWER_METHODS)
def test_at_its_worst_a_method_draws_what_admission_counts(method: str) -> None:
    assert answer_cost(method, SMALL, WORST).drawn == METHODS[method].worst_case_tokens(SMALL)


@pytest.mark.parametrize("method", [name for name in POWER_METHODS if name != "uniform_cut"])
def test_where_nothing_can_be_saved_the_count_is_that_of_a_real_run(method: str) -> None:
    """No answer ends, and equal rows have one entropy jump, the first: every cut falls at 0."""
    assert answer_cost(method, PLAIN_CHAIN, WORST).drawn == drawn_by(method, PLAIN_CHAIN, seed=1)


@pytest.mark.slow
def test_uniform_cuts_cost_what_real_runs_cost_in_the_mean() -> None:
    counts = [drawn_by("uniform_cut", PLAIN_CHAIN, seed) for seed in range(150)]
    mean = sum(counts) / len(counts)
    error = math.sqrt(sum((count - mean) ** 2 for count in counts) / len(counts) / (len(counts) - 1))
    predicted = answer_cost("uniform_cut", PLAIN_CHAIN, replace(WORST, remaining=None)).drawn

    assert predicted == 24 + 4 * sum((horizon + 1) / 2 for horizon in PLAIN_CHAIN.horizons)
    assert abs(mean - predicted) < 4 * error


@given(behaviours, st.sampled_from(POWER_METHODS))
@settings(max_examples=100, deadline=None)
def test_no_behaviour_costs_more_than_the_worst(how: Behaviour, method: str) -> None:
    cost = answer_cost(method, SMALL, how)

    assert 0 <= cost.drawn <= cost.worst
    assert cost.free >= 0
    assert 0 <= cost.position <= SMALL.max_tokens
    assert cost.width >= 1


@given(behaviours, st.sampled_from(["entropy_cut", "multiple_try"]), st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_the_cost_moves_as_each_figure_does(how: Behaviour, method: str, share: float) -> None:
    def drawn(**change: Any) -> float:
        return answer_cost(method, SMALL, replace(how, **change)).drawn

    slack = 1e-9 * SMALL.worst_case_tokens
    assert drawn(acceptance=how.acceptance * share) <= drawn() + slack
    assert drawn(lost_after=share * min(100.0, how.lost_after)) <= drawn() + slack
    assert drawn(answer_tokens=max(1.0, how.answer_tokens * share)) <= drawn() + slack
    assert drawn(free_share=how.free_share * share) >= drawn() - slack
    saved = answer_cost(method, replace(SMALL, early_rejection=False), how).drawn
    assert drawn() <= saved + slack
    assert answer_cost(method, replace(SMALL, memo_tree=False), how).drawn >= drawn() - slack


@pytest.mark.parametrize(("longest", "mean"), [(64, 41.0), (1024, 30.0), (10, 10.0), (10, 500.0)])
def test_answers_have_the_mean_length_that_was_given(longest: int, mean: float) -> None:
    lengths = Lengths(longest, mean)

    assert lengths.reached(longest) == pytest.approx(min(mean, longest))
    assert lengths.longest_of(1) == pytest.approx(min(mean, longest), rel=1e-3)
    assert lengths.longest_of(1) <= lengths.longest_of(8) <= longest


@pytest.mark.parametrize("method", ["entropy_cut", "multiple_try", "smc", "tmc", "best_of_n"])
def test_a_token_budget_cuts_off_all_that_a_request_does(method: str) -> None:
    """What is drawn one after another, begun and free goes with the tokens drawn."""
    whole = answer_cost(method, replace(SMALL, samples=3), USUAL)
    budget = int(whole.drawn / 3)
    cut = answer_cost(method, replace(SMALL, samples=3, max_generated_tokens=budget), USUAL)

    assert cut.drawn == budget
    share = budget / whole.drawn
    assert cut.depth == pytest.approx(whole.depth * share)
    assert cut.calls == pytest.approx(whole.calls * share)
    assert cut.free == pytest.approx(whole.free * share)
    assert cut.width == pytest.approx(whole.width)
    roomy = replace(SMALL, max_generated_tokens=10 * whole.worst)
    assert answer_cost(method, replace(roomy, samples=3), USUAL) == whole


def test_paper_mode_and_flat_targets_are_not_saved_anything() -> None:
    saved = answer_cost("entropy_cut", SMALL, USUAL).drawn
    assert answer_cost("entropy_cut", replace(SMALL, mode="paper"), USUAL).drawn > saved
    assert answer_cost("entropy_cut", replace(SMALL, alpha=0.5), USUAL).drawn > saved


def test_what_is_lost_late_is_drawn_whole_and_looks_that_are_rare_cost_tokens() -> None:
    assert kept_share(replace(USUAL, lost_after=1e12), 50.0) == pytest.approx(1.0)
    assert kept_share(replace(USUAL, lost_after=0.0), 50.0) == pytest.approx(USUAL.acceptance)
    assert kept_share(replace(USUAL, lost_after=5.0), 50.0) == pytest.approx(0.3 + 0.7 * 0.1, rel=1e-3)
    assert kept_share(USUAL, 50.0, tries=4) < kept_share(USUAL, 50.0)
    seldom = behaviour("entropy_cut", SMALL, lost_after=5.0, watch_interval=4)
    assert seldom.lost_after == 6.5


def test_what_is_shipped_as_measured_is_told_by_method_and_can_be_replaced() -> None:
    assert SEEN.keys() <= METHODS.keys()
    assert behaviour("entropy_cut", SMALL, acceptance=0.25).acceptance == 0.25
    whole = behaviour("entropy_cut", replace(SMALL, early_rejection=False))
    assert whole.free_share == SEEN["entropy_cut"].free_share_whole
    assert behaviour("standard", PlainParams(8)).free_share == 0.0


@pytest.mark.parametrize(("config", "params", "kv_bytes"), [(SMOLLM2, 134_515_008, 23_040), (LLAMA, 8.030e9, 131_072)])
def test_a_models_size_follows_from_its_config(config: Any, params: float, kv_bytes: int, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = from_config(tmp_path, None, None)

    assert shape.params == pytest.approx(params, rel=1e-4)
    assert shape.kv_bytes_per_token("bf16") == kv_bytes
    assert shape.kv_bytes_per_token("fp8") == kv_bytes / 2
    assert shape.weight_bytes("fp32") == 4 * shape.params
    assert not shape.is_estimated


@pytest.mark.parametrize("params", [1e8, 7e9, 70e9, 4e11])
def test_an_estimated_model_has_the_parameters_it_was_estimated_from(params: float) -> None:
    shape = estimated(params)
    assert 12 * shape.layers * shape.hidden**2 == pytest.approx(params, rel=0.01)
    assert shape.kv_heads <= 8


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "not a JSON object"),
        ("{", "not JSON"),
        ("{}", "hidden_size"),
        (json.dumps(LLAMA | {"num_hidden_layers": -1}), "num_hidden_layers"),
        (json.dumps(LLAMA | {"vocab_size": True}), "vocab_size"),
        (json.dumps(LLAMA | {"num_experts": 8}), "mixture of experts"),
    ],
)
def test_a_bad_config_is_refused_in_words(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(InvalidParams, match=says):
        from_config(path, None, None)


def roofline(gpus: int = 1, **efficiency: float) -> Roofline:
    perfect = Efficiency(1.0, 1.0, 1.0, 0.0)
    return Roofline(estimated(7e9), GPUS["H100"], gpus, "bf16", "bf16", replace(perfect, **efficiency))


def test_a_lone_row_waits_for_the_weights_and_many_for_arithmetic() -> None:
    nothing, step = Load(0.0, 1.0, 0.0), roofline()

    assert step.seconds(1, nothing) == pytest.approx(14e9 / 3.35e12)
    assert step.seconds(4096, nothing) == pytest.approx(4096 * 14e9 / 989e12)
    assert roofline(overhead_s=0.5).seconds(1, nothing) == pytest.approx(14e9 / 3.35e12 + 0.5)
    assert roofline(bandwidth=0.5).seconds(1, nothing) == pytest.approx(2 * 14e9 / 3.35e12)


def test_context_costs_bandwidth_and_positions_computed_again_cost_arithmetic() -> None:
    step, shape = roofline(), estimated(7e9)
    behind = step.parts(8, Load(1000.0, 1000.0, 0.0))
    assert behind["memory"] == pytest.approx((14e9 + 8000 * shape.kv_bytes_per_token("bf16")) / 3.35e12)
    assert behind["prefill"] == 0.0
    assert step.parts(8, Load(0.0, 1.0, 3.0))["prefill"] == pytest.approx(3 * step.parts(8, Load(0, 1, 0))["compute"])


def test_two_gpus_halve_what_they_share_and_pay_for_talking() -> None:
    load = Load(500.0, 500.0, 0.0)
    one, two = roofline(1).parts(16, load), roofline(2).parts(16, load)
    assert two["memory"] == pytest.approx(one["memory"] / 2)
    assert one["links"] == 0.0 < two["links"]


@pytest.mark.parametrize(
    ("name", "sent_s", "fp32"),
    [
        ("A100", 300e9, 19.5e12),
        ("L40S", 32e9, 91.6e12),
        ("H100", 450e9, 67e12),
        ("H200", 450e9, 67e12),
        ("B200", 900e9, 75e12),
    ],
)
def test_links_send_half_of_what_data_sheets_add_up_and_fp32_has_its_own_rate(
    name: str, sent_s: float, fp32: float
) -> None:
    """A ring of two sends all activations once, in one direction: rows · width · 2 bytes, twice a layer."""
    step = replace(roofline(2), gpu=GPUS[name])
    rows, nothing = 10_000.0, Load(0.0, 1.0, 0.0)
    sent_bytes = 2 * step.shape.layers * rows * step.shape.hidden * 2
    delays = 2 * step.shape.layers * LINK_DELAY_S
    assert step.parts(rows, nothing)["links"] == pytest.approx(delays + sent_bytes / sent_s)
    in_fp32 = replace(step, dtype="fp32").parts(rows, nothing)["compute"]
    assert in_fp32 == pytest.approx(rows * 14e9 / (2 * fp32))


def test_experts_that_no_row_needs_are_not_read() -> None:
    mixture = replace(roofline(), shape=estimated(100e9, 10e9))
    nothing = Load(0.0, 1.0, 0.0)
    assert mixture.parts(1, nothing)["memory"] == pytest.approx(0.1 * 200e9 / 3.35e12)
    assert mixture.parts(1000, nothing)["memory"] == pytest.approx(200e9 / 3.35e12)


@pytest.mark.parametrize("servers", [1, 2, 5, 40])
@pytest.mark.parametrize("busy", [0.01, 0.5, 0.95])
def test_the_wait_is_erlangs(servers: int, busy: float) -> None:
    offered = busy * servers
    terms = [offered**k / math.factorial(k) for k in range(servers + 1)]
    last = terms[-1] / (1 - busy)
    assert erlang_c(servers, offered) == pytest.approx(last / (sum(terms[:-1]) + last))
    assert mean_wait_s(1, busy, 1.0) == pytest.approx(busy / (1 - busy))


def test_a_queue_of_very_many_places_neither_overflows_nor_hides_an_overload() -> None:
    assert 0.0 <= erlang_c(1_000_000, 700_000.0) < 1e-12
    assert 0.0 < erlang_c(10_000, 9_950.0) < 1.0
    assert mean_wait_s(100, 101.0, 1.0) == math.inf


def test_every_gpu_names_its_source_and_an_unknown_one_is_refused() -> None:
    assert all("data sheet" in gpu.source for gpu in GPUS.values())
    assert gpu_of("h200").memory_bytes == 141e9
    with pytest.raises(InvalidParams, match="A100"):
        gpu_of("TPU")


SEEN_AT_64 = PowerParams(64, blocks=4, steps_per_block=5)
COUNTED_BEFORE: dict[str, tuple[PowerParams, float, float]] = {
    "entropy_cut": (SEEN_AT_64, 41.0, 215.0),
    "uniform_cut": (SEEN_AT_64, 44.0, 196.0),
    "multiple_try": (replace(SEEN_AT_64, tries=4, steps_per_block=2), 41.0, 262.0),
    "smc": (replace(SEEN_AT_64, particles=5), 41.0, 255.0),
    "tmc": (replace(SEEN_AT_64, candidates=2, rollouts=1), 44.0, 202.0),
    "best_of_n": (replace(SEEN_AT_64, max_generated_tokens=215), 54.0, 245.0),
}
"""What docs/methods.md counted on 44 prompts: parameters, mean length, tokens drawn. Systems had as many particles or
candidates as fit each prompt's budget, five and two in the mean."""


@pytest.mark.parametrize("method", COUNTED_BEFORE)
def test_counts_that_were_measured_before_are_predicted_within_a_third(method: str) -> None:
    params, length, counted = COUNTED_BEFORE[method]
    predicted = answer_cost(method, params, behaviour(method, params, length)).drawn
    print(f"\n{method}: predicted {predicted:.0f}, counted {counted:.0f}, ratio {predicted / counted:.2f}")
    assert 0.67 < predicted / counted < 1.5


def test_savings_that_were_measured_before_are_predicted_within_a_fifth() -> None:
    """docs/speed.md, 20 prompts, 256 tokens, 4 × 10 steps; answers end at the rate that docs/methods.md saw."""
    params = PowerParams(256, blocks=4, steps_per_block=10)
    plain = replace(params, early_rejection=False, memo_tree=False)
    length = Lengths(64, 41.0).reached(256)

    def drawn(chosen: PowerParams) -> float:
        return answer_cost("entropy_cut", chosen, behaviour("entropy_cut", chosen, length)).drawn

    for chosen, measured in ((replace(plain, early_rejection=True), 0.52), (params, 0.32)):
        print(f"\npredicted {drawn(chosen) / drawn(plain):.2f}, measured {measured}")
        assert drawn(chosen) / drawn(plain) == pytest.approx(measured, rel=0.2)
