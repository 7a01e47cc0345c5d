"""A small panel with a clear rank-one signal, for the list and the documents."""

import math
from typing import Any

UNITS, TIMES = 24, 24


def example_panel() -> dict[str, Any]:
    """24 units x 24 times; unit i's effect is 0.5 + i/24, and its treatment rate differs from its neighbours'."""
    outcomes, treatment = [], []
    for unit in range(UNITS):
        level, effect = 2 + math.cos(unit), 0.5 + unit / UNITS
        arms = [int((7 * unit + 5 * time + unit * time) % 11 < 4 + unit % 4) for time in range(TIMES)]
        wave = [1 + 0.3 * math.sin(0.7 * time) for time in range(TIMES)]
        noise = [0.1 * math.sin(12.9 * unit + 78.2 * time) for time in range(TIMES)]
        row = [(level + effect * arm) * w + e for arm, w, e in zip(arms, wave, noise, strict=True)]
        outcomes.append([round(value, 3) for value in row])
        treatment.append(arms)
    ids = [f"unit-{unit:02d}" for unit in range(UNITS)]
    return {"outcomes": outcomes, "treatment": treatment, "unit_ids": ids, "rank": 1, "seed": 0}
