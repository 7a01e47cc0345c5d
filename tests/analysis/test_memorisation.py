"""Acceptance of the formulas for linear generators, against simulation of the very thing they describe."""

from itertools import pairwise

import numpy as np
import pytest

from service.analysis.memorisation_convergence import measures, theory

ONE = np.ones(1)
POINTS = 400


def gaussian(rng: np.random.Generator, n: int, scale: np.ndarray) -> np.ndarray:
    """n rows with the standard deviations `scale`, (d,)."""
    return rng.standard_normal((n, len(scale))) * scale


def simulated(seed: int, d: int, load: float, draws: int, theta: float = 0.0, ridge: float = 0.0) -> dict[str, float]:
    """q, squared overlap with the spike, memorisation ratio, squared Bures distance for each dimension."""
    rng = np.random.default_rng(seed)
    scale = np.ones(d)
    scale[0] = np.sqrt(1 + theta)
    n = round(load * d)
    spike = np.eye(1, d)
    found = []
    for _ in range(draws):
        a, b = gaussian(rng, n, scale), gaussian(rng, n, scale)
        halves = measures.measure_halves(a, b, spike, ridge, rng.standard_normal((64, d)))
        root = np.linalg.svd(a / np.sqrt(n), compute_uv=False)
        found.append([halves.convergence, halves.overlap_sq, halves.memorisation_ratio, bures(root, d)])
    mean = np.mean(found, axis=0)
    return dict(zip(("q", "overlap", "ratio", "bures"), mean.tolist(), strict=True))


def bures(root: np.ndarray, d: int) -> float:
    """W₂²/d between N(0, I) and N(0, Ĉ) from the singular values of Ĉ^{1/2}."""
    return (d + float((root**2).sum()) - 2 * float(root.sum())) / d


LOADS = (0.1, 0.25, 0.5, 1, 2, 4)
CONVERGENCE = (0.0975, 0.2341, 0.4351, 0.7205, 0.8701, 0.9364)
RATIOS = (3.32, 2.24, 1.73, 1.41, 1.22, 1.12)
BULK = (1.376, 1.032, 0.681, 0.302, 0.134, 0.0646)


@pytest.mark.parametrize(("load", "q"), list(zip(LOADS, CONVERGENCE, strict=True)))
def test_convergence_is_its_closed_form(load: float, q: float) -> None:
    assert theory.identity_convergence(load) == pytest.approx(q, abs=6e-5)


def test_convergence_at_known_loads() -> None:
    assert theory.identity_convergence(1) == pytest.approx((8 / (3 * np.pi)) ** 2, abs=1e-12)
    assert theory.identity_convergence(0.01) == pytest.approx(0.01 - 0.01**2 / 4, abs=1e-6)
    assert theory.identity_convergence(200) == pytest.approx(1 - 1 / 800, abs=1e-5)
    slopes = [(theory.identity_convergence(1 + h) - theory.identity_convergence(1)) / h for h in (-1e-5, 1e-5)]
    assert slopes == pytest.approx([0.360, 0.360], abs=1e-3)
    for q, load in ((0.25, 0.268), (0.5, 0.592), (0.75, 1.096), (0.9, 2.572), (0.95, 5.067)):
        assert theory.identity_convergence(load) == pytest.approx(q, abs=4e-4)
    assert theory.half_convergence_load(ONE, 0.0, POINTS) == pytest.approx(0.592, abs=5e-4)
    assert theory.half_convergence_load(ONE, 1.0, POINTS) is None  # a ridge of 1 already agrees by half


def test_the_integral_is_the_closed_form_for_the_identity() -> None:
    for load in (0.05, 0.3, 0.9, 1.0, 1.5, 20.0):
        root = theory.root_diagonal(ONE, load, 0.0, POINTS)
        assert root[0] ** 2 == pytest.approx(theory.identity_convergence(load), abs=2e-6)


def test_the_resolvent_equation_is_solved() -> None:
    spectrum = np.arange(1, 301) ** -1.0
    for load in (0.02, 1.0, 30.0):
        t = np.geomspace(1e-8, 1e6, 60)
        mu = theory.resolvent_scale(spectrum, load, t)
        right = t + (spectrum / (1 + mu[:, None] * spectrum)).mean(axis=1) / load
        assert mu * right == pytest.approx(np.ones(60), abs=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(("load", "q", "ratio", "bulk"), list(zip(LOADS, CONVERGENCE, RATIOS, BULK, strict=True)))
def test_simulation_agrees_at_every_load(load: float, q: float, ratio: float, bulk: float) -> None:
    found = simulated(1, 400, load, draws=2)
    assert found["q"] == pytest.approx(q, abs=0.01)
    assert found["ratio"] == pytest.approx(ratio, rel=0.04)
    assert theory.memorisation_ratio(load, 0) == pytest.approx(ratio, abs=0.006)
    assert found["bures"] == pytest.approx(bulk, rel=0.01 if load >= 0.25 else 0.02)
    assert 2 * (1 - np.sqrt(q)) == pytest.approx(bulk, abs=1e-3)


def test_convergence_without_recovery_and_recovery_without_convergence() -> None:
    converged = simulated(2, 400, 2.0, draws=2, theta=0.5)
    assert converged["q"] >= 0.85
    assert converged["overlap"] <= 0.05
    recovered = simulated(3, 400, 0.5, draws=3, theta=2.0)
    assert recovered["q"] <= 0.5
    assert recovered["overlap"] >= 0.15


@pytest.mark.slow
def test_convergence_is_blind_to_the_latent_direction() -> None:
    weak, strong = (simulated(4, 500, 1.0, draws=2, theta=theta) for theta in (0.5, 2.0))
    assert abs(weak["q"] - strong["q"]) <= 0.005
    assert strong["overlap"] - weak["overlap"] >= 0.4
    assert strong["overlap"] == pytest.approx(theory.latent_overlap_sq(1.0, 2.0), abs=0.08)


def spike_overlap(rng: np.random.Generator, d: int, load: float, theta: float, draws: int) -> tuple[float, float]:
    """Mean squared overlap and empirical top eigenvalue of a spike, by the smaller Gram matrix."""
    scale = np.ones(d)
    scale[0] = np.sqrt(1 + theta)
    found = []
    for _ in range(draws):
        rows = gaussian(rng, max(2, round(load * d)), scale)
        _, values, directions = np.linalg.svd(rows / np.sqrt(len(rows)), full_matrices=False)
        found.append([directions[0, 0] ** 2, values[0] ** 2])
    overlap, top = np.mean(found, axis=0)
    return float(overlap), float(top)


@pytest.mark.slow
@pytest.mark.parametrize("theta", [1.0, 2.0])
def test_the_spike_appears_as_the_formula_says(theta: float) -> None:
    rng = np.random.default_rng(5)
    critical = theory.threshold_load(theta)
    for share in (0.5, 2.0, 4.0):
        load = share * critical
        overlap, top = spike_overlap(rng, 600, load, theta, draws=4)
        wanted = theory.latent_overlap_sq(load, theta)
        assert overlap == pytest.approx(wanted, abs=0.05 if share < 1 else 0.08)
        assert top == pytest.approx(theory.top_eigenvalue(load, theta), rel=0.06)


@pytest.mark.long
@pytest.mark.parametrize("theta", [1.0, 2.0])
def test_the_threshold_fitted_from_overlaps(theta: float) -> None:
    from scipy.optimize import minimize_scalar

    rng = np.random.default_rng(6)
    critical = theory.threshold_load(theta)
    loads = critical * np.geomspace(0.3, 6, 10)
    overlaps = np.array([spike_overlap(rng, 1000, load, theta, draws=6)[0] for load in loads])
    for load, overlap in zip(loads, overlaps, strict=True):
        deviation = abs(overlap - theory.latent_overlap_sq(load, theta))
        assert deviation <= (0.05 if load <= 0.8 * critical else 0.08 if load >= 1.25 * critical else 0.10)

    def misfit(at: float) -> float:
        shape = np.maximum(0, (1 - at / loads) / (1 + 1 / (loads * theta)))
        return float(((shape - overlaps) ** 2).sum())

    fitted = minimize_scalar(misfit, bounds=(critical / 2, critical * 2), method="bounded").x  # type: ignore[union-attr]
    print(f"theta {theta}: threshold {fitted:.3f}, theory {critical:.3f}")
    assert fitted == pytest.approx(critical, rel=0.10)


def test_negative_spikes_are_seen_at_the_lower_edge() -> None:
    rng = np.random.default_rng(7)
    theta, load, d = -0.8, 4.0, 300
    scale = np.ones(d)
    scale[0] = np.sqrt(1 + theta)
    rows = gaussian(rng, round(load * d), scale)
    _, values, directions = np.linalg.svd(rows / np.sqrt(len(rows)), full_matrices=False)
    assert directions[-1, 0] ** 2 == pytest.approx(theory.latent_overlap_sq(load, theta), abs=0.08)
    assert values[-1] ** 2 == pytest.approx(theory.top_eigenvalue(load, theta), rel=0.1)
    assert theory.latent_overlap_sq(1.0, theta) == 0


@pytest.mark.parametrize(("n", "wanted"), [(1, 1.0), (2, 0.900), (4, 0.778), (8, 0.650), (16, 0.527)])
def test_few_samples_are_copied(n: int, wanted: float) -> None:
    assert theory.nearest_similarity(n, 400, 0.0) == pytest.approx(wanted, abs=1.5e-3)
    rng = np.random.default_rng(8)
    found = []
    for _ in range(40):
        rows = rng.standard_normal((n, 400))
        model = measures.fit_generator(rows, 0.0)
        found.append(measures.nearest(model.draw(rng.standard_normal((64, 400))), rows))
    assert np.mean(found) == pytest.approx(wanted, abs=0.015)


def test_many_samples_are_near_by_chance_alone() -> None:
    rng = np.random.default_rng(9)
    rows = rng.standard_normal((400, 400))
    for ridge in (0.0, 1.0):
        model = measures.fit_generator(rows, ridge)
        found = measures.nearest(model.draw(rng.standard_normal((200, 400))), rows)
        assert found == pytest.approx(theory.nearest_similarity(400, 400, ridge), rel=0.04)


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5])
def test_power_laws_agree_with_simulation(power: float) -> None:
    rng = np.random.default_rng(10)
    d = 300
    spectrum = np.arange(1, d + 1) ** -power
    for load in (0.1, 0.5, 2.0):
        n = round(load * d)
        found = []
        for _ in range(6 if load < 0.5 else 2):
            halves = [measures.fit_generator(gaussian(rng, n, np.sqrt(spectrum)), 0.0) for _ in range(2)]
            found.append(measures.generator_agreement(*halves))
        wanted = theory.convergence(spectrum, load, 0.0, POINTS)
        assert np.mean(found) == pytest.approx(wanted, abs=0.03 if n == 30 else 0.01)


def test_a_steep_spectrum_is_recovered_before_it_converges() -> None:
    rng = np.random.default_rng(11)
    spectrum = np.arange(1, 301) ** -1.0
    overlaps = [measures.principal(gaussian(rng, 30, np.sqrt(spectrum)), 1)[0, 0] ** 2 for _ in range(40)]
    assert np.mean(overlaps) == pytest.approx(0.76, abs=0.08)
    assert theory.convergence(spectrum, 0.1, 0.0, POINTS) == pytest.approx(0.43, abs=0.03)


@pytest.mark.parametrize(
    ("ridge", "load", "q"), [(0.1, 0.25, 0.482), (0.1, 1.0, 0.797), (1.0, 0.25, 0.842), (1.0, 1.0, 0.944)]
)
def test_ridges_agree_with_simulation(ridge: float, load: float, q: float) -> None:
    assert theory.convergence(ONE, load, ridge, POINTS) == pytest.approx(q, abs=1e-3)
    found = simulated(12, 300, load, draws=4, ridge=ridge)
    assert found["q"] == pytest.approx(q, abs=0.005)
    assert found["ratio"] == pytest.approx(theory.memorisation_ratio(load, ridge), rel=0.04)


@pytest.mark.parametrize(("load", "wanted"), [(0.5, 0.435), (2.0, 0.870)])
def test_the_flow_of_the_linear_denoiser_gives_the_same_agreement(load: float, wanted: float) -> None:
    """dx/ds = (x − D_s(x))/s from s = 200 to 0.01, D_s = Ĉ(Ĉ + s²)⁻¹, started from the same noise for both."""
    rng = np.random.default_rng(13)
    d = 200
    noise = rng.standard_normal((64, d)) * 200.0
    ends = []
    for _ in range(2):
        rows = rng.standard_normal((round(load * d), d))
        values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
        x = noise @ vectors
        grid = np.geomspace(200.0, 0.01, 400)
        for s, after in pairwise(grid.tolist()):

            def slope(at: float, y: np.ndarray, values: np.ndarray = values) -> np.ndarray:
                return y * (at / (values.clip(0) + at**2))

            first = slope(s, x)
            x = x + (after - s) / 2 * (first + slope(after, x + (after - s) * first))
        ends.append(x @ vectors.T)
    assert measures.pair_cosines(*ends).mean() == pytest.approx(wanted, abs=0.015)


def test_a_generator_is_the_root_of_its_covariance() -> None:
    rng = np.random.default_rng(14)
    for n, ridge in ((5, 0.0), (5, 0.3), (40, 0.3)):
        rows = rng.standard_normal((n, 12))
        model = measures.fit_generator(rows, ridge)
        root = model.draw(np.eye(12))
        assert root @ root == pytest.approx(rows.T @ rows / n + ridge * np.eye(12), abs=1e-10)
        other = measures.fit_generator(rng.standard_normal((7, 12)), ridge)
        there = other.draw(np.eye(12))
        wanted = np.trace(root @ there) / np.sqrt(np.trace(root @ root) * np.trace(there @ there))
        assert measures.generator_agreement(model, other) == pytest.approx(wanted, abs=1e-12)
