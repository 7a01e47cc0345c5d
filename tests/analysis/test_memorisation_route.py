"""`memorisation-convergence` as callers meet it."""

from typing import Any

import httpx
import numpy as np
import pytest

from service.analysis.memorisation_convergence import measures
from tests.service.checks import assert_error

PATH = "/v1/analysis/memorisation-convergence"
D = 20


def post(http: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    reply = http.post(PATH, json=body)
    assert reply.status_code == 200, reply.text[:500]
    return reply.json()


def two_models(train: int, d: int = D, spike: float = 8.0, seed: int = 0) -> dict[str, Any]:
    """Samples of linear generators trained on disjoint data with one strong direction."""
    rng = np.random.default_rng(seed)
    scale = np.ones(d)
    scale[0] = np.sqrt(1 + spike)
    rows = [rng.standard_normal((train, d)) * scale for _ in range(2)]
    noise = rng.standard_normal((80, d))
    samples = [measures.fit_generator(one, 0.0).draw(noise) for one in rows]
    names = ("train_a", "train_b", "samples_a", "samples_b")
    return {"mode": "samples", "seed": 1} | {
        name: one.round(6).tolist() for name, one in zip(names, [*rows, *samples], strict=True)
    }


def test_theory_curves(http: httpx.Client) -> None:
    reply = post(http, {"mode": "theory", "load_grid": [0.1, 1.0, 4.0], "spikes": [0.5, 2.0]})
    curves = reply["theory"]
    assert reply["samples"] is None
    assert curves["convergence"] == pytest.approx([0.0975, 0.7205, 0.9364], abs=1e-4)
    assert curves["bbp_threshold_load"] == [4.0, 0.25]
    assert curves["latent_overlap_sq"][0] == [0.0, 0.0, 0.0]
    assert curves["latent_overlap_sq"][1][1] == pytest.approx(0.5)
    assert curves["wasserstein2_sq_per_dim"] == pytest.approx([1.376, 0.302, 0.0646], abs=1e-3)
    assert curves["half_convergence_load"] == pytest.approx(0.592, abs=1e-3)
    assert len(post(http, {"mode": "theory"})["theory"]["load"]) == 20


def test_theory_of_a_sample_size(http: httpx.Client) -> None:
    curves = post(http, {"mode": "theory", "n_samples": 2, "dimension": 400})["theory"]
    assert curves["load"] == [0.005]
    assert curves["nearest_similarity"] == pytest.approx([0.900], abs=1e-3)


def test_other_spectra_say_what_is_not_known_of_them(http: httpx.Client) -> None:
    curves = post(http, {"mode": "theory", "spectrum": {"power_law": 1.0}, "dimension": 300, "load_grid": [0.1]})
    assert curves["theory"]["convergence"] == pytest.approx([0.413], abs=0.02)
    assert curves["theory"]["memorisation_ratio"] is None
    assert curves["theory"]["wasserstein2_sq_per_dim"] is None
    given = post(http, {"mode": "theory", "spectrum": [1.0] * 50, "load_grid": [1.0]})
    assert given["theory"]["convergence"] == pytest.approx([0.7205], abs=1e-4)


def test_models_of_much_data_have_converged_and_recovered(http: httpx.Client) -> None:
    found = post(http, two_models(train=400))["samples"]
    assert found["verdict"] == "converged_and_recovered"
    low, high = found["convergence"]["ci95"]
    assert 0.9 <= low < found["convergence"]["mean"] < high
    assert found["convergence"]["predicted"] == pytest.approx(found["convergence"]["mean"], abs=0.03)
    assert found["distances"]["bulk"] == pytest.approx(2 * (1 - found["convergence"]["mean"]))
    assert found["distances"]["latent"] == pytest.approx(1 - found["latent_recovery"]["overlap_sq"])


def test_models_of_little_data_memorise(http: httpx.Client) -> None:
    reply = post(http, two_models(train=6, d=200, spike=0.0))
    assert reply["samples"]["verdict"] == "memorising"
    assert reply["samples"]["memorisation"]["ratio"] > 1.5
    assert {one["code"] for one in reply["warnings"]} == {"noisy_reference"}


def test_a_model_that_missed_the_latent_direction(http: httpx.Client) -> None:
    body = two_models(train=400, spike=0.0)
    rng = np.random.default_rng(9)
    reference = rng.standard_normal((400, D))
    reference[:, 3] *= 3
    found = post(http, body | {"reference": reference.tolist()})["samples"]
    assert found["verdict"] == "converged_bulk_only"
    assert found["latent_recovery"]["overlap_sq"] < 0.5


def test_a_holdout_set_takes_the_place_of_the_twins_rows(http: httpx.Client) -> None:
    body = two_models(train=30)
    holdout = np.random.default_rng(10).standard_normal((50, D)).tolist()
    found = post(http, body | {"holdout": holdout})["samples"]
    assert found["memorisation"]["ratio"] > 1
    assert found["memorisation"] != post(http, body)["samples"]["memorisation"]


def test_halves_of_a_data_set(http: httpx.Client) -> None:
    rng = np.random.default_rng(11)
    data = rng.standard_normal((300, 60))
    data[:, 0] *= 3
    body = {"mode": "split_half", "data": data.tolist(), "n_grid": [15, 60, 150], "seed": 2}
    curves = post(http, body)["split_half"]
    assert curves["n"] == [15, 60, 150]
    assert curves["load"] == [0.25, 1.0, 2.5]
    assert curves["convergence"] == pytest.approx(curves["predicted_convergence"], abs=0.06)
    assert np.all(np.diff(curves["convergence"]) > 0)
    assert np.all(np.diff(curves["memorisation_ratio"]) < 0)
    assert curves["latent_overlap_sq"][-1] > 0.9
    assert post(http, body) == post(http, body)
    assert len(post(http, {"mode": "split_half", "data": data.tolist()})["split_half"]["n"]) == 8


def samples(**fields: Any) -> dict[str, Any]:
    return two_models(train=10) | fields


ROWS = np.random.default_rng(12).standard_normal((12, D)).tolist()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"mode": "theory", "load_grid": [0.0]}, "load_grid.0"),
        ({"mode": "theory", "load_grid": []}, "load_grid"),
        ({"mode": "theory", "n_samples": 10}, "dimension"),
        ({"mode": "theory", "n_samples": 10, "dimension": 1}, "dimension"),
        ({"mode": "theory", "n_samples": 10, "dimension": 20, "load_grid": [1.0]}, "n_samples"),
        ({"mode": "theory", "dimension": 20}, "dimension"),
        ({"mode": "theory", "spectrum": [0.0, 0.0]}, "spectrum"),
        ({"mode": "theory", "spectrum": [1.0, -0.1]}, "spectrum"),
        ({"mode": "theory", "spectrum": [1.0]}, "spectrum"),
        ({"mode": "theory", "spectrum": {"power_law": -1}}, "spectrum"),
        ({"mode": "theory", "spectrum": [1.0, 2.0], "dimension": 3}, "dimension"),
        ({"mode": "theory", "spectrum": {"power_law": 1.0}, "dimension": 2001}, "dimension"),
        ({"mode": "theory", "spectrum": {"power_law": 1.0}, "spikes": [1.0]}, "spikes"),
        ({"mode": "theory", "spikes": [-1.0]}, "spikes.0"),
        ({"mode": "theory", "spikes": [0.0]}, "spikes"),
        ({"mode": "theory", "spikes": [5e-324]}, "spikes"),
        ({"mode": "theory", "load_grid": [5e-324]}, "load_grid.0"),
        ({"mode": "theory", "spectrum": [0.0, 5e-324]}, "spectrum"),
        ({"mode": "split_half", "data": [[1e-200] * D, *[[-1e-200] * D] * 9]}, "data.0"),
        ({"mode": "theory", "ridge": -0.1}, "ridge"),
        ({"mode": "theory", "latent_dim": 1}, "latent_dim"),
        ({"mode": "theory", "data": ROWS}, "data"),
        ({"mode": "dream"}, "mode"),
        ({}, "mode"),
        ({"mode": "samples"}, "samples_a"),
        (samples(samples_b=ROWS), "samples_b"),
        (samples(train_b=two_models(train=10)["train_a"]), "train_b"),
        (samples(holdout=two_models(train=10)["train_b"][:2]), "holdout"),
        (samples(holdout=[[1.0, 2.0], [3.0, 4.0]]), "holdout"),
        (samples(train_a=ROWS[:1]), "train_a"),
        (samples(train_a=[*ROWS, [1.0, 2.0]]), "train_a.12"),
        (samples(train_a=[row[:-1] for row in ROWS]), "train_a"),
        (samples(latent_dim=21), "latent_dim"),
        (samples(center=False, samples_a=[[0.0] * D, *two_models(10)["samples_a"][1:]]), "samples_a.0"),
        (samples(ridge=1.0), "ridge"),
        ({"mode": "split_half"}, "data"),
        ({"mode": "split_half", "data": ROWS, "n_grid": [7]}, "n_grid.0"),
        ({"mode": "split_half", "data": ROWS, "n_grid": [1]}, "n_grid.0"),
        ({"mode": "split_half", "data": ROWS[:5]}, "data"),
        ({"mode": "split_half", "data": ROWS, "latent_dim": 13}, "latent_dim"),
        ({"mode": "split_half", "data": ROWS, "repeats": 0}, "repeats"),
        ({"mode": "split_half", "data": ROWS, "samples_a": ROWS}, "samples_a"),
        ({"mode": "split_half", "data": [[0.0] * 2001] * 2}, "data.0"),
    ],
)
def test_rejections_name_the_field(http: httpx.Client, body: dict[str, Any], param: str) -> None:
    found = assert_error(http.post(PATH, json=body), 422)["param"]
    assert found.split(".")[: len(param.split("."))] == param.split(".")


def test_shared_rows_are_counted(http: httpx.Client) -> None:
    body = two_models(train=10)
    body["train_b"][:3] = body["train_a"][4:7]
    assert "3 exact rows" in assert_error(http.post(PATH, json=body), 422)["message"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["samples", "split_half"])
def test_every_mode_has_its_picture(http: httpx.Client, mode: str) -> None:
    body = two_models(train=12) if mode == "samples" else {"mode": mode, "data": ROWS}
    reply = http.post(PATH, json=body, headers={"Accept": "image/png"})
    assert reply.status_code == 200, reply.text[:500]
    assert reply.content.startswith(b"\x89PNG")
