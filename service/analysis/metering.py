"""Privacy budgets: a durable ledger is debited before anything is computed, and what is released is stored at once.

A reply leaves the server only as the ledger keeps it. So a request that comes again under its `release_id`, as the
row of a batch does after a crash, gets the stored release: never a second draw, which would cost privacy twice.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field


class Remaining(BaseModel):
    """What is left of the budget of one key for one data set."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    epsilon: float = Field(ge=0)
    delta: float = Field(ge=0)


@dataclass(frozen=True)
class Charge:
    """What a release costs.

    Attributes:
        dataset_id: Whose rows, by the caller's name for them.
        release_id: The caller's name of this release; without one, the server makes one.
        epsilon: Privacy loss, in nats.
        delta: Probability beyond it.
        digest: Of all that was asked except the rows' values; a release_id must not be used for anything else.
    """

    dataset_id: str
    release_id: str | None
    epsilon: float
    delta: float
    digest: str


class Stored(NamedTuple):
    """A release as it leaves the server: the reply as JSON, and its picture as PNG."""

    reply: bytes
    picture: bytes


@dataclass(frozen=True)
class Account:
    """A debited release: its name, what is left beside it, and the release itself if there is one already."""

    release_id: str
    remaining: Remaining
    stored: Stored | None


class BudgetSpent(Exception):
    """The release would cost more than is left."""


class ReleaseMismatch(Exception):
    """The release_id was used for another request."""


class Ledger(Protocol):
    """Where budgets are kept. All calls are blocking and safe from any thread and process."""

    def debit(self, owner: str, charge: Charge) -> Account:
        """Take the cost off the budget, once for a release_id however often it is asked.

        Raises:
            BudgetSpent: Nothing was taken.
            ReleaseMismatch: Nothing was taken.
        """
        ...

    def settle(self, owner: str, dataset_id: str, release_id: str, release: Stored) -> Stored:
        """Store a release, unless one is stored already; returns the one that is."""
        ...
