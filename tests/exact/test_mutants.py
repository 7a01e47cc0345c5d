"""Every known way to get the law wrong is seen by the checks that the sampler passes."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from sampler.params import PowerParams
from tests.exact import mutants as m
from tests.exact.checks import (
    check_cut_draws,
    check_every_call_has_its_own_key,
    check_kernel,
    check_kinds_share_no_draws,
    check_limit,
    check_prompts_share_no_draws,
    check_same_path,
    check_stops_at_first_lost_row,
)
from tests.exact.engines import Flaky
from tests.exact.enumeration import Case, Space
from tests.exact.models import EndlessEngine, random_engine
from tests.exact.scripted import check_steps_as_enumerated

Check = Callable[[], object]
ENGINE = random_engine(8, 4)
PARAMS = PowerParams(4, 4.0, 4.0, 1, 10, None, early_rejection=False)
EARLY = replace(PARAMS, early_rejection=True)
STOPPED = replace(PARAMS, stop=("ab",))
BELOW_ONE = replace(EARLY, alpha=0.5)
STAGED = replace(PARAMS, alpha=2.0, blocks=2)


def kernel(params: PowerParams = PARAMS, cut: str = "entropy") -> Check:
    return lambda: check_kernel(Case(ENGINE, params, cut))


def limit(params: PowerParams = PARAMS) -> Check:
    return lambda: check_limit(Case(ENGINE, params))


def cut_draws() -> None:
    check_cut_draws(Space(Case(ENGINE, PARAMS), 4))


def first_lost_row() -> None:
    check_stops_at_first_lost_row(Space(Case(ENGINE, EARLY), 4))


def chain_steps() -> None:
    for horizon in STAGED.horizons:
        check_steps_as_enumerated(Space(Case(ENGINE, STAGED), horizon), every=5)


def retries() -> None:
    engine = EndlessEngine(1, ("a", "b", "c", "<eos>"), (3,), end_mass=0.05)
    params = PowerParams(16, 2.0, 1.0, 2, 10, None)
    for seed in range(3):
        check_same_path(engine, Flaky(engine, lambda number: number % 3 == 2), params, seed)


def own_keys() -> None:
    check_every_call_has_its_own_key(ENGINE, PowerParams(4, 2.0, 1.0, 2, 10, None))


CHECKS: dict[str, Check] = {
    "kernel": kernel(),
    "kernel, uniform": kernel(cut="uniform"),
    "kernel, early rejection": kernel(EARLY),
    "kernel, stop string": kernel(STOPPED),
    "kernel, alpha below one": kernel(BELOW_ONE),
    "limit": limit(),
    "cut draws": cut_draws,
    "first lost row": first_lost_row,
    "chain steps": chain_steps,
    "retries": retries,
    "prompts": check_prompts_share_no_draws,
    "kinds": check_kinds_share_no_draws,
    "own keys": own_keys,
}

MUTANTS: Sequence[tuple[str, m.Mutant, Sequence[str]]] = [
    ("ℓ sign", m.ell_sign, ["kernel", "kernel, early rejection", "limit"]),
    ("ℓ_m counted", m.ell_m_counted, ["kernel", "kernel, early rejection", "limit"]),
    ("last ℓ dropped", m.last_ell_dropped, ["kernel", "limit"]),
    ("last ℓ of the proposal dropped", m.last_ell_of_proposal_dropped, ["kernel", "limit"]),
    ("row h_k counted", m.row_h_counted(ENGINE, current_too=True), ["kernel", "limit"]),
    ("row h_k of the proposal counted", m.row_h_counted(ENGINE, current_too=False), ["kernel", "limit"]),
    ("Z ratio inverted", m.z_inverted, ["kernel", "kernel, uniform", "kernel, early rejection", "limit"]),
    ("Z dropped", m.z_dropped, ["kernel", "kernel, uniform", "kernel, early rejection", "limit"]),
    ("uphill only", m.uphill_only, ["kernel", "kernel, uniform", "kernel, early rejection"]),
    ("always accepted", m.always_accepts, ["kernel", "kernel, uniform"]),
    ("cut 0 without weight", m.cut_zero_has_no_weight, ["kernel"]),
    ("cut 0 never drawn", m.cut_zero_never_drawn, ["kernel", "kernel, uniform", "cut draws"]),
    ("cut drawn evenly", m.cut_drawn_evenly, ["kernel", "cut draws"]),
    ("suffix cut to the shorter one", m.suffix_cut_to_the_shorter, ["kernel", "kernel, uniform", "limit"]),
    ("bound one row late", m.bound_one_row_late, ["first lost row"]),
    ("bound kept for alpha below one", m.bound_kept_below_alpha_one, ["kernel, alpha below one"]),
    ("stop strings judged on new text only", m.stops_judged_on_new_text_only, ["kernel, stop string"]),
    ("draw keys without the prompt", m.keys_without_prompt, ["prompts"]),
    ("draw keys without the kind", m.keys_without_kind, ["kinds"]),
    ("extension shares a step's keys", m.extension_shares_a_step, ["own keys"]),
    ("proposal no longer than the trace", m.proposal_no_longer_than_the_trace, ["chain steps"]),
    ("finished traces retired", m.finished_trace_retired, ["chain steps"]),
    ("failed proposal counted as a rejection", m.failure_counted_as_rejection, ["retries"]),
    ("failed proposal redrawn with a new key", m.failure_redrawn_with_a_new_key, ["retries"]),
]
KILLS = [pytest.param(mutant, check, id=f"{name} - {check}") for name, mutant, checks in MUTANTS for check in checks]


@pytest.mark.parametrize("name", CHECKS)
def test_the_sampler_passes_every_check_that_kills_a_mutant(name: str) -> None:
    CHECKS[name]()


@pytest.mark.parametrize(("mutant", "check"), KILLS)
def test_a_mutant_is_killed(monkeypatch: pytest.MonkeyPatch, mutant: m.Mutant, check: str) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        CHECKS[check]()


def test_without_cut_zero_traces_are_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    m.cut_zero_has_no_weight(monkeypatch)
    with pytest.raises(AssertionError, match="cannot be reached"):
        CHECKS["kernel"]()


@pytest.mark.parametrize(
    "mutant", [m.ell_sign, m.ell_m_counted, m.last_ell_dropped, m.z_inverted, m.z_dropped, m.suffix_cut_to_the_shorter]
)
def test_a_wrong_formula_is_seen_in_the_law_itself(monkeypatch: pytest.MonkeyPatch, mutant: m.Mutant) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match="invariant"):
        CHECKS["kernel"]()


def test_a_bound_one_row_late_leaves_the_law_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It only costs tokens, which is why it needs a check of its own."""
    m.bound_one_row_late(monkeypatch)
    CHECKS["kernel, early rejection"]()
