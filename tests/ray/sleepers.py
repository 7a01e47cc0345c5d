"""Puts two more applications on a running cluster, whose engine's cost is a sleep: `one` replica, and `two`.

Run as a program: the cluster's address, and a folder for data.
"""

import sys
from functools import partial
from pathlib import Path

from service.replicas.deployment import application
from service.replicas.options import Scale
from service.settings import Settings
from tests.service.faulty import FaultyEngine
from tests.service.tables import endless_table

DELAY_S = 0.25
AT_ONCE = 2
"""Requests that one replica runs at once."""


def deploy(address: str, data: Path) -> None:
    """Deploy both, and wait until they serve."""
    import ray
    from ray import serve
    from ray.serve.api import RunTarget

    ray.init(address=address)
    settings = Settings(keys=None, max_running_requests=AT_ONCE, data_dir=data, batch_rows=0)
    load = partial(FaultyEngine, endless_table(), DELAY_S)
    targets = [
        RunTarget(application(load, settings, Scale(replicas=count, cpus_per_replica=0)), name, f"/{name}")
        for name, count in (("one", 1), ("two", 2))
    ]
    serve.run_many(targets)
    ray.shutdown()


if __name__ == "__main__":
    deploy(sys.argv[1], Path(sys.argv[2]))
