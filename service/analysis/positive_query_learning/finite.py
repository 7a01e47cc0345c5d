"""Finite classes, exactly: concepts are bit masks over a domain, and so are sets of concepts.

cl(T) is the intersection of all concepts that fit the labelled set T. A sample S is certified by the kept points S' ⊆ S
and the answers if cl of them holds S; the size of an interaction is queries + |S'|. The adaptive number AQC is the size
that the worst sample and the worst answers force on the best strategy; NQ is the same without queries. Definitions
formalised here; no-query: Natarajan 1987, Shvaytser 1990, Kivinen 1995.
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import NamedTuple

from service.analysis.positive_query_learning.dialogue import Dialogue, OutOfQueries


class Numbers(NamedTuple):
    """Of a class.

    Attributes:
        vc: VC dimension.
        aqc: Adaptive query-compression size.
        nq: No-query compression size.
        witness: A sample, as a mask, that forces `aqc`.
    """

    vc: int
    aqc: int
    nq: int
    witness: int


class Finite:
    """A class of concepts.

    Args:
        domain: |X|.
        concepts: Masks, none twice.
    """

    def __init__(self, domain: int, concepts: list[int]) -> None:
        self.domain, self.concepts = domain, concepts
        self.everything = (1 << len(concepts)) - 1
        self.holding = [
            sum(1 << index for index, concept in enumerate(concepts) if concept >> x & 1) for x in range(domain)
        ]
        """For each element, the concepts that hold it."""
        self._hitting = HittingNumbers()

    def members(self, sample: int) -> int:
        """The concepts that hold every element of a sample."""
        found = self.everything
        for x in elements(sample):
            found &= self.holding[x]
        return found

    def closure(self, consistent: int) -> int:
        """The intersection of some concepts; the whole domain if there are none."""
        found = (1 << self.domain) - 1
        for index in elements(consistent):
            found &= self.concepts[index]
        return found

    def samples(self) -> list[int]:
        """Every subset of a concept."""
        found: set[int] = set()
        for concept in self.concepts:
            found.update(submasks(concept))
        return sorted(found)

    def vc_dimension(self) -> int:
        """The largest set of elements that the concepts cut in every way."""
        best = 0
        for size in range(1, self.domain + 1):
            if 1 << size > len(self.concepts):
                break
            masks = (sum(1 << x for x in chosen) for chosen in combinations(range(self.domain), size))
            if not any(len({concept & mask for concept in self.concepts}) == 1 << size for mask in masks):
                break
            best = size
        return best

    def kept_size(self, sample: int, consistent: int) -> int:
        """Fewest points of a sample whose closure, with what made the concepts `consistent`, holds the sample."""
        missing = [sample & ~self.concepts[index] for index in elements(consistent & ~self.members(sample))]
        return self._hitting.of(frozenset(missing))

    def numbers(self, report: Callable[[float], None] = lambda fraction: None) -> Numbers:
        """VC, AQC and NQ; AQC only of samples that could still be the worst."""
        sizes = sorted(((self.kept_size(s, self.everything), s) for s in self.samples()), reverse=True)
        best, witness = 0, 0
        for number, (size, sample) in enumerate(sizes):
            if size <= best:
                break
            report(number / len(sizes))
            forced = self.adaptive_size(sample, best, size)
            if forced > best:
                best, witness = forced, sample
        return Numbers(self.vc_dimension(), best, sizes[0][0], witness)

    def adaptive_size(self, sample: int, least: int, most: int) -> int:
        """The adaptive size of one sample, if it is above `least`; something not above it otherwise."""
        holders = self.members(sample)
        seen: dict[tuple[int, int], bool] = {}

        def within(consistent: int, budget: int) -> bool:
            key = (consistent, budget)
            if key not in seen:
                seen[key] = self.kept_size(sample, consistent) <= budget or (budget > 0 and asks(consistent, budget))
            return seen[key]

        def asks(consistent: int, budget: int) -> bool:
            splits = {self.holding[x] & consistent for x in range(self.domain)} - {0, consistent}
            return any(
                all(within(part, budget - 1) for part in (split, consistent & ~split) if part & holders)
                for split in splits
            )

        size = least
        while size < most and not within(self.everything, size):
            size += 1
        return size


def elements(mask: int) -> Iterator[int]:
    """The bits of a mask."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def submasks(mask: int) -> Iterator[int]:
    """All subsets of a mask."""
    part = mask
    while True:
        yield part
        if not part:
            return
        part = (part - 1) & mask


class HittingNumbers:
    """Fewest elements that meet every set of a family; remembers what it found."""

    def __init__(self) -> None:
        self._known: dict[frozenset[int], int] = {}

    def of(self, sets: frozenset[int]) -> int:
        """The number; no set may be empty."""
        if sets not in self._known:
            budget = 0
            while not self._within(sets, budget):
                budget += 1
            self._known[sets] = budget
        return self._known[sets]

    def _within(self, sets: frozenset[int], budget: int) -> bool:
        if not sets or budget == 0:
            return not sets
        first = min(sets, key=int.bit_count)
        return any(
            self._within(frozenset(one for one in sets if not one >> x & 1), budget - 1) for x in elements(first)
        )


class FiniteRun(NamedTuple):
    """Where the learner ended.

    Attributes:
        consistent: Concepts that fit sample and answers.
        kept: Size of the smallest certificate of the sample beside the answers.
        budget_ended: Whether a query did not fit into the budget.
    """

    consistent: int
    kept: int
    budget_ended: bool


def learn(finite: Finite, sample: int, dialogue: Dialogue, enough: int) -> FiniteRun:
    """Ask what splits the concepts that hold the sample most evenly, until a certificate of size `enough` exists.

    Answers are also held against concepts that miss the sample, as a certificate has to exclude those; so where one
    concept is left, queries with foreseen answers may still stand for more sample points than they are.
    `consistent` is 0 if answers and sample contradict the class.
    """
    answered, budget_ended = finite.everything, False
    while True:
        holding = answered & finite.members(sample)
        kept = finite.kept_size(sample, answered) if holding else 0
        if not holding or len(dialogue.asked) + kept <= enough:
            break
        best = even_split(finite, holding)
        if best is None:
            best = shorter_proof(finite, sample, answered, holding, kept)
        if best is None:
            break
        try:
            answer = dialogue.ask([best])[0]
        except OutOfQueries:
            budget_ended = True
            break
        answered &= finite.holding[best] if answer.label else ~finite.holding[best]
    return FiniteRun(answered & finite.members(sample), kept, budget_ended)


def even_split(finite: Finite, holding: int) -> int | None:
    """The element that splits these concepts most evenly; None if no element does."""
    counts = {x: (finite.holding[x] & holding).bit_count() for x in range(finite.domain)}
    total = holding.bit_count()
    best = min(counts, key=lambda x: abs(2 * counts[x] - total))
    return None if counts[best] in (0, total) else best


def shorter_proof(finite: Finite, sample: int, answered: int, holding: int, kept: int) -> int | None:
    """The element whose foreseen answer saves most sample points, if it saves more than the one query it costs."""

    def size_after(x: int) -> int:
        is_held = finite.holding[x] & holding == holding
        return finite.kept_size(sample, answered & (finite.holding[x] if is_held else ~finite.holding[x]))

    best = min(range(finite.domain), key=size_after)
    return best if size_after(best) + 1 < kept else None
