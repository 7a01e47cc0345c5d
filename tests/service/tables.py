"""Tables in the documented file format."""

import itertools
from typing import Any

import numpy as np

LETTERS = ("a", "b", "<eos>")
EOS = 2


def letters_table(seed: int = 7, horizon: int = 4, concentration: float = 2.0) -> dict[str, Any]:
    """Three tokens, one of them the end: a random row for each prefix shorter than the horizon."""
    rng = np.random.default_rng(seed)
    prefixes = [ids for length in range(horizon) for ids in itertools.product((0, 1), repeat=length)]
    rows = {prefix: np.log(rng.dirichlet([concentration] * 3)) for prefix in prefixes}
    logits = {" ".join(map(str, prefix)): row.tolist() for prefix, row in rows.items()}
    return {"vocab": list(LETTERS), "eos": [EOS], "logits": logits, "default": [0.0, -1.0, -3.0]}


def endless_table() -> dict[str, Any]:
    """Four letters and no end, so that every answer has its full length."""
    return {"vocab": ["w", "x", "y", "zz"], "eos": [], "logits": {}, "default": [0.0, -0.5, -1.0, -0.2]}


def gap_table() -> dict[str, Any]:
    """Impossible tokens: rows with −∞ logits."""
    return {
        "vocab": ["a", "b", "c", "<eos>"],
        "eos": [3],
        "logits": {"": [0.0, None, -1.0, None], "0": [None, None, 0.0, None]},
        "default": [0.0, 0.0, None, None],
    }
