"""The counters of all replicas on one page, each series with the replica it is from.

A proxy sends each request to some replica, so a page of one replica alone would be another one's at every scrape, and
counters would seem to fall.
"""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

LABEL = "replica"
PATIENCE_S = 5.0
"""Seconds that all replicas together get to tell."""


def labelled(families: Iterable[Metric], replica: str) -> list[Metric]:
    """Families whose every sample says which replica it is from."""
    found = []
    for family in families:
        copy = Metric(family.name, family.documentation, family.type, family.unit)
        copy.samples = [sample._replace(labels={**sample.labels, LABEL: replica}) for sample in family.samples]
        found.append(copy)
    return found


def page(told: Sequence[Sequence[Metric]], silent: int) -> bytes:
    """One exposition of what replicas told; `silent` did not."""
    families: dict[str, Metric] = {}
    for replica in told:
        for family in replica:
            families.setdefault(family.name, family)
            if families[family.name] is not family:
                families[family.name].samples.extend(family.samples)
    state = GaugeMetricFamily("powercut:replicas", "replicas asked for this page", labels=["state"])
    state.add_metric(["told"], len(told))
    state.add_metric(["silent"], silent)
    registry = CollectorRegistry()
    registry.register(_Told([*families.values(), state]))
    return generate_latest(registry)


class _Told(Collector):
    """Families as they are."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self._families
