"""Runs of the made-up benchmark in this process."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from evals.arms import method_arm
from evals.client import Patience
from evals.records import Key, Record, read_records
from evals.session import Plan, carry_out
from evals.settings import Arm
from tests.evals.made_up import Letters

QUICK = Patience(connect_s=2, answer_s=20, retries=2, backoff_s=0.01, backoff_max_s=0.02)
POWER: Mapping[str, Any] = {"alpha": 4.0, "blocks": 4, "steps_per_block": 4, "prefetch": False}
STANDARD = method_arm("standard", {}, None, None)


def plan(url: str, output: Path, *arms: Arm, problems: int = 12, chat: bool = False, **more: Any) -> Plan:
    """A run of the letters."""
    settings: dict[str, Any] = {"max_tokens": 8, "patience": QUICK, "concurrency": 4} | more
    reference = settings.pop("reference", None)
    return Plan(Letters(problems, chat), arms or (STANDARD,), reference, url, None, output, **settings)


def carry(chosen: Plan) -> dict[Key, Record]:
    """Carry a plan out; its records."""
    asyncio.run(carry_out(chosen, Console(quiet=True)))
    return read_records(chosen.output)


PASSING = frozenset({"timings", "written", "versions", "tries"})
"""Fields that may differ between two runs of the same answers."""


def lasting(records: Mapping[Key, Record]) -> dict[Key, dict[str, Any]]:
    """Records without what passes, to be compared."""
    return {key: {name: v for name, v in each.items() if name not in PASSING} for key, each in records.items()}
