"""`benchmark-bounds` and `pac-bayes-bounds` as callers meet them."""

from typing import Any

import httpx
import pytest

from tests.service.checks import assert_error

BENCHMARK, PAC = "/v1/analysis/benchmark-bounds", "/v1/analysis/pac-bayes-bounds"
SURE: dict[str, Any] = {"n": 30, "delta": 0.1, "empirical_risk": 0.05, "kl_divergence": 2.0}


def results(correct: int, n: int, samples: int = 1) -> list[dict[str, Any]]:
    """`correct` of n problems solved in all their samples."""
    return [{"problem_id": f"p{i}", "num_correct": samples * (i < correct), "num_samples": samples} for i in range(n)]


def bounds(http: httpx.Client, body: dict[str, Any], path: str = BENCHMARK) -> dict[str, dict[str, Any]]:
    reply = http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return {one["method"]: one for one in reply.json()["bounds"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("correct", "n", "lower", "interval"),
    [
        (12, 30, 0.2495, (0.227, 0.594)),
        (24, 30, 0.643, (0.614, 0.923)),
        (120, 164, 0.669, (0.657, 0.798)),
        (80, 198, 0.3455, (0.335, 0.476)),
        (370, 500, 0.7057, (0.699, 0.778)),
        (30, 30, 0.9050, (0.884, 1.0)),
    ],
)
def test_the_usual_benchmarks(
    http: httpx.Client, correct: int, n: int, lower: float, interval: tuple[float, float]
) -> None:
    one_sided = bounds(http, {"results": results(correct, n)})["binomial_tail"]
    assert one_sided["lower"] == pytest.approx(lower, abs=6e-4)
    assert one_sided["upper"] == 1.0
    both = bounds(http, {"results": results(correct, n), "side": "two_sided"})["binomial_tail"]
    assert (both["lower"], both["upper"]) == pytest.approx(interval, abs=6e-4)


@pytest.mark.slow
def test_what_is_certified_and_what_is_not(http: httpx.Client) -> None:
    reply = http.post(BENCHMARK, json={"results": results(12, 30), "seed": 1}).json()
    found = {one["method"]: one for one in reply["bounds"]}
    assert reply["method"] == "binomial_tail"
    assert reply["accuracy"] == 0.4
    assert {name for name, one in found.items() if one["certified"]} == {"binomial_tail", "chernoff_kl", "hoeffding"}
    assert found["chernoff_kl"]["lower"] == pytest.approx(0.2039, abs=1e-4)
    assert found["clt_wald"]["lower"] == pytest.approx(0.2529, abs=1e-4)
    assert "n=30" in found["clt_wald"]["warning"]
    assert any("i.i.d." in one for one in reply["assumptions"])
    assert any(one["code"] == "small_sample" for one in reply["warnings"])


@pytest.mark.parametrize(("tried", "lower"), [(1, 0.5006), (8, 0.4235), (32, 0.3834)])
def test_the_best_of_several(http: httpx.Client, tried: int, lower: float) -> None:
    body = {"results": results(20, 30), "num_configurations_tried": tried, "methods": ["binomial_tail"]}
    assert bounds(http, body)["binomial_tail"]["lower"] == pytest.approx(lower, abs=1e-4)
    body = {"results": results(20, 30), "prior_weight": 1 / tried, "methods": ["binomial_tail"]}
    assert bounds(http, body)["binomial_tail"]["lower"] == pytest.approx(lower, abs=1e-4)


def test_upper_limits_mirror_lower_ones(http: httpx.Client) -> None:
    lower = bounds(http, {"results": results(12, 30), "side": "lower"})
    upper = bounds(http, {"results": results(18, 30), "side": "upper"})
    for method, one in lower.items():
        assert upper[method]["upper"] == pytest.approx(1 - one["lower"], abs=1e-12)
        assert upper[method]["lower"] == 0.0


def test_several_samples_count_as_problems_not_as_trials(http: httpx.Client) -> None:
    body = {"results": results(12, 30, samples=16), "seed": 3}
    reply = http.post(BENCHMARK, json=body).json()
    found = {one["method"]: one for one in reply["bounds"]}
    assert reply["method"] == "chernoff_kl"
    assert reply["num_trials"] == 480
    assert set(found) == {"chernoff_kl", "hoeffding", "binomial_tail_one_sample", "cluster_t"}
    # Every sample of a problem agrees here, so that one sample says what all do.
    assert found["binomial_tail_one_sample"]["lower"] == pytest.approx(0.2495, abs=1e-4)
    assert found["chernoff_kl"]["lower"] == pytest.approx(0.2039, abs=1e-4)
    assert any(one["code"] == "clustered_samples" for one in reply["warnings"])


def test_the_seed_draws_the_sample_that_counts(http: httpx.Client) -> None:
    half = [{"problem_id": f"p{i}", "num_correct": 8, "num_samples": 16} for i in range(30)]

    def lower(seed: int) -> float:
        return bounds(http, {"results": half, "seed": seed})["binomial_tail_one_sample"]["lower"]

    assert lower(1) == lower(1)
    assert len({lower(seed) for seed in range(6)}) > 1


def test_fixed_problems_pool_their_trials(http: httpx.Client) -> None:
    body = {"results": results(12, 30, samples=16), "estimand": "fixed_benchmark"}
    pooled = bounds(http, body)["binomial_tail"]
    assert pooled["lower"] == pytest.approx(bounds(http, {"results": results(192, 480)})["binomial_tail"]["lower"])
    uneven = [{"problem_id": f"p{i}", "num_correct": 1, "num_samples": 2 + i % 2} for i in range(30)]
    reply = http.post(BENCHMARK, json={"results": uneven, "estimand": "fixed_benchmark"}).json()
    assert [one["method"] for one in reply["bounds"]] == ["hoeffding"]
    width = (0.5 * 2.995732273553991 * sum(1 / (900 * (2 + i % 2)) for i in range(30))) ** 0.5
    assert reply["bounds"][0]["lower"] == pytest.approx(reply["accuracy"] - width)


def test_graded_scores(http: httpx.Client) -> None:
    graded = [{"problem_id": f"p{i}", "score": 0.25 + 0.5 * (i % 2)} for i in range(40)]
    reply = http.post(BENCHMARK, json={"results": graded}).json()
    assert reply["method"] == "chernoff_kl"
    assert reply["accuracy"] == 0.5
    whole = [{"problem_id": f"p{i}", "score": float(i < 12)} for i in range(30)]
    assert bounds(http, {"results": whole})["binomial_tail"]["lower"] == pytest.approx(0.2495, abs=1e-4)


def test_a_baseline_on_the_same_problems(http: httpx.Client) -> None:
    theirs = list(reversed(results(7, 30)))
    reply = http.post(BENCHMARK, json={"results": results(12, 30), "baseline_results": theirs}).json()
    assert reply["paired_test"] == {"wins": 5, "losses": 0, "ties": 25, "p_value_one_sided": 0.03125}


def changed(**fields: Any) -> dict[str, Any]:
    return {"results": results(12, 30)} | fields


def one_result(**fields: Any) -> dict[str, Any]:
    return {"results": [{"problem_id": "a"} | fields]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (changed(delta=0), "delta"),
        (changed(delta=1.0), "delta"),
        (changed(delta=1.5), "delta"),
        ({"results": []}, "results"),
        ({}, "results"),
        (one_result(num_correct=2, num_samples=1), "results.0.num_correct"),
        (one_result(num_correct=-1), "results.0.num_correct"),
        (one_result(num_correct=0.5), "results.0.num_correct"),
        (one_result(num_correct=True), "results.0.num_correct"),
        (one_result(num_correct=1, num_samples=0), "results.0.num_samples"),
        (one_result(), "results.0.num_correct"),
        (one_result(num_correct=1, score=1.0), "results.0.num_correct"),
        (one_result(score=1.5), "results.0.score"),
        (one_result(score=-0.1), "results.0.score"),
        (one_result(score=0.5, num_samples=3), "results.0.num_samples"),
        ({"results": results(1, 2) + results(1, 1)}, "results.2.problem_id"),
        ({"results": [*results(1, 2), {"problem_id": "z", "score": 0.5}]}, "results"),
        (one_result(score=0.5) | {"methods": ["binomial_tail"]}, "methods"),
        (changed(results=results(2, 3, samples=4), methods=["binomial_tail"]), "methods"),
        (changed(results=results(2, 3, samples=4), methods=["clt_wald"]), "methods"),
        (changed(estimand="fixed_benchmark", methods=["cluster_t"]), "methods"),
        (changed(estimand="fixed_benchmark", methods=["binomial_tail_one_sample"]), "methods"),
        (changed(methods=[]), "methods"),
        (changed(methods=["pooled"]), "methods.0"),
        (changed(num_configurations_tried=0), "num_configurations_tried"),
        (changed(num_configurations_tried=2, prior_weight=0.5), "prior_weight"),
        (changed(prior_weight=0), "prior_weight"),
        (changed(prior_weight=5e-324), "prior_weight"),
        (changed(delta=5e-324), "delta"),
        (changed(baseline_results=results(1, 29)), "baseline_results"),
        (changed(estimand="something"), "estimand"),
    ],
)
def test_benchmark_rejections_name_the_field(http: httpx.Client, body: dict[str, Any], param: str) -> None:
    assert assert_error(http.post(BENCHMARK, json=body), 422)["param"] == param


def test_unequal_samples_of_fixed_problems_are_not_pooled(http: httpx.Client) -> None:
    uneven = [{"problem_id": f"p{i}", "num_correct": 1, "num_samples": 1 + i} for i in range(3)]
    for method in ("binomial_tail", "chernoff_kl"):
        body = {"results": uneven, "estimand": "fixed_benchmark", "methods": [method]}
        assert assert_error(http.post(BENCHMARK, json=body), 422)["param"] == "methods"


def test_the_specs_example_of_pac_bayes(http: httpx.Client) -> None:
    body = SURE | {"methods": ["pac_bayes_kl", "catoni", "optimistic_kl"], "catoni_beta": 1.842}
    found = bounds(http, body, PAC)
    assert found["pac_bayes_kl"]["value"] == pytest.approx(0.30856, abs=1e-5)
    assert found["pac_bayes_kl"]["log_moment_term"] == pytest.approx(2.0215, abs=1e-4)
    assert found["catoni"]["value"] == pytest.approx(0.24936, abs=1e-5)
    assert found["optimistic_kl"]["value"] == pytest.approx(0.24936, abs=1e-5)
    assert [one["certified"] for one in found.values()] == [True, True, False]


def test_a_mixture_of_configurations(http: httpx.Client) -> None:
    rows = [(0.5, 0.3), (0.5, 0.4), *[(0.0, 0.9)] * 6]
    mixture = [{"posterior": weight, "prior": 0.125, "empirical_risk": risk} for weight, risk in rows]
    reply = http.post(PAC, json={"n": 30, "configurations": mixture}).json()
    assert reply["kl_divergence"] == pytest.approx(1.3863, abs=1e-4)
    assert reply["bounds"][0]["value"] == pytest.approx(0.67007, abs=1e-4)


def test_mass_where_the_prior_has_none_certifies_nothing(http: httpx.Client) -> None:
    impossible = [
        {"posterior": 1.0, "prior": 0.0, "empirical_risk": 0.1},
        {"posterior": 0.0, "prior": 1.0, "empirical_risk": 0.2},
    ]
    body = {"n": 30, "configurations": impossible, "methods": ["pac_bayes_kl", "catoni", "optimistic_kl"]}
    reply = http.post(PAC, json=body | {"catoni_beta": 1.0}).json()
    assert reply["kl_divergence"] is None
    assert [one["value"] for one in reply["bounds"]] == [1.0, 1.0, 1.0]
    assert reply["warnings"][0]["code"] == "infinite_divergence"


def test_a_grid_of_betas_shares_delta_out_and_a_fitted_one_certifies_nothing(http: httpx.Client) -> None:
    def catoni(**fields: Any) -> dict[str, Any]:
        return bounds(http, SURE | {"methods": ["catoni"]} | fields, PAC)["catoni"]

    grid = catoni(catoni_beta=[1.0, 1.842, 3.0, 4.0])
    assert grid["beta"] == 1.842
    assert grid["value"] == pytest.approx(catoni(catoni_beta=1.842, delta=0.1 / 4)["value"])
    assert grid["certified"]
    fitted = catoni(catoni_beta="optimise", certified=False)
    assert not fitted["certified"]
    assert fitted["value"] == pytest.approx(0.24936, abs=1e-5)


def test_a_prior_from_the_data_leaves_fewer_examples(http: httpx.Client) -> None:
    kept = bounds(http, SURE | {"n": 42, "num_prior_examples": 12}, PAC)
    assert kept["pac_bayes_kl"]["value"] == pytest.approx(0.30856, abs=1e-5)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 0}, "n"),
        ({"delta": 0}, "delta"),
        ({"empirical_risk": 1.1}, "empirical_risk"),
        ({"empirical_risk": None}, "empirical_risk"),
        ({"kl_divergence": -0.1}, "kl_divergence"),
        ({"kl_divergence": None}, "kl_divergence"),
        ({"kl_divergence": 1e300}, "kl_divergence"),
        ({"num_prior_examples": 30}, "num_prior_examples"),
        ({"methods": ["catoni"]}, "catoni_beta"),
        ({"methods": ["catoni"], "catoni_beta": 0}, "catoni_beta"),
        ({"methods": ["catoni"], "catoni_beta": 51}, "catoni_beta"),
        ({"methods": ["catoni"], "catoni_beta": []}, "catoni_beta"),
        ({"methods": ["catoni"], "catoni_beta": "optimise"}, "catoni_beta"),
        ({"catoni_beta": 1.0}, "catoni_beta"),
        ({"methods": ["learned_delta"]}, "methods.0"),
        ({"configurations": [{"posterior": 1.0, "prior": 1.0, "empirical_risk": 0.1}]}, "empirical_risk"),
    ],
)
def test_pac_bayes_rejections_name_the_field(http: httpx.Client, fields: dict[str, Any], param: str) -> None:
    error = assert_error(http.post(PAC, json=SURE | {"methods": ["pac_bayes_kl"]} | fields), 422)
    assert error["param"].split(".")[: len(param.split("."))] == param.split(".")


@pytest.mark.parametrize("name", ["posterior", "prior"])
def test_weights_must_sum_to_one(http: httpx.Client, name: str) -> None:
    rows = [{"posterior": 0.5, "prior": 0.5, "empirical_risk": 0.1} for _ in range(2)]
    rows[0][name] = 0.5 + 1e-8
    error = assert_error(http.post(PAC, json={"n": 30, "configurations": rows}), 422)
    assert error["param"] == "configurations"
    assert name in error["message"]
