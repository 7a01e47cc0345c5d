"""Bounds for small benchmarks: test-set bounds, PAC-Bayes, and when which is a certificate.

Foong, Bruinsma, Burt, Turner: How Tight Can PAC-Bayes be in the Small Data Regime? NeurIPS 2021, arXiv 2106.03542.
`tails` and `pac_bayes` are the formulas; `benchmark` and `certificate` answer the two routes.
"""

from service.analysis.frame import Analysis, Paper
from service.analysis.small_data_bounds.schema import (
    BenchmarkBounds,
    BenchmarkBoundsRequest,
    PacBayesBounds,
    PacBayesBoundsRequest,
)

PAPER = Paper("How Tight Can PAC-Bayes be in the Small Data Regime?", "2106.03542")

BENCHMARK_BOUNDS = Analysis(
    name="benchmark-bounds",
    paper=PAPER,
    summary="What a benchmark of few problems certifies about accuracy, also for the best of several configurations",
    request=BenchmarkBoundsRequest,
    response=BenchmarkBounds,
    work="service.analysis.small_data_bounds.benchmark",
    example={
        "results": [
            {"problem_id": f"problem-{number:02d}", "num_correct": int(number <= 20), "num_samples": 1}
            for number in range(1, 31)
        ],
        "num_configurations_tried": 8,
        "seed": 0,
    },
)

PAC_BAYES_BOUNDS = Analysis(
    name="pac-bayes-bounds",
    paper=PAPER,
    summary="Risk of a randomised predictor from few examples: PAC-Bayes-kl, Catoni, and the curve nothing goes under",
    request=PacBayesBoundsRequest,
    response=PacBayesBounds,
    work="service.analysis.small_data_bounds.certificate",
    example={
        "n": 30,
        "delta": 0.1,
        "empirical_risk": 0.05,
        "kl_divergence": 2.0,
        "methods": ["pac_bayes_kl", "catoni", "optimistic_kl"],
        "catoni_beta": 1.842,
    },
)
