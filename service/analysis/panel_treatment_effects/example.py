"""A small panel with a clear rank-one signal, for the list and the documents."""

import math
import random
from typing import Any

UNITS, TIMES = 24, 32
SEED = 5


def example_panel() -> dict[str, Any]:
    """Unit i of 24 has the mean effect 0.5 + i/24 and a treatment rate of its own between 0.4 and 0.6."""
    dice = random.Random(SEED)
    outcomes, treatment = [], []
    for unit in range(UNITS):
        level, effect, rate = math.cos(unit), 0.5 + unit / UNITS, 0.4 + 0.2 * dice.random()
        arms = [int(dice.random() < rate) for _ in range(TIMES)]
        waves = [1 + 0.3 * math.sin(0.7 * time) for time in range(TIMES)]
        row = [(level + effect * arm) * wave + dice.gauss(0, 0.1) for arm, wave in zip(arms, waves, strict=True)]
        outcomes.append([round(value, 2) for value in row])
        treatment.append(arms)
    ids = [f"unit-{unit:02d}" for unit in range(UNITS)]
    return {"outcomes": outcomes, "treatment": treatment, "unit_ids": ids, "refinement": "hard_impute", "seed": 0}
