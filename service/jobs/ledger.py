"""Privacy budgets in the job store: debits and releases, per key and data set, in one table."""

import secrets
from decimal import Decimal

from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.engine import Row

from service.analysis.metering import Account, BudgetSpent, Charge, ReleaseMismatch, Remaining, Stored
from service.jobs.database import Database, db_now
from service.jobs.tables import releases
from service.settings import Settings

LEDGER_LOCK = 7_301_606
"""PostgreSQL's advisory lock of all debits: two at once could each find enough left for one."""


class StoreLedger:
    """See `service.analysis.metering.Ledger`. Costs add up (basic composition), in exact decimal arithmetic."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._epsilon, self._delta = exact(settings.privacy_budget_epsilon), exact(settings.privacy_budget_delta)

    def debit(self, owner: str, charge: Charge) -> Account:
        """See `Ledger`. One transaction: SQLite has one writer at a time, PostgreSQL gets a lock."""
        with self._database.write() as connection:
            if self._database.is_postgres:
                connection.execute(select(text(f"pg_advisory_xact_lock({LEDGER_LOCK})")))
            spent = [*self._releases(connection, owner, charge.dataset_id)]
            known = next((row for row in spent if row.release_id == charge.release_id), None)
            if known is not None:
                if known.digest != charge.digest:
                    raise ReleaseMismatch("is the name of a release that was asked for with other parameters")
                stored = None if known.reply is None else Stored(bytes(known.reply), bytes(known.picture))
                return Account(known.release_id, self._remaining(spent, None), stored)
            remaining = self._remaining(spent, charge)
            release_id = charge.release_id or f"release_{secrets.token_hex(16)}"
            values = {
                "owner": owner,
                "dataset_id": charge.dataset_id,
                "release_id": release_id,
                "epsilon": str(exact(charge.epsilon)),
                "delta": str(exact(charge.delta)),
                "digest": charge.digest,
                "created_at": db_now(),
            }
            connection.execute(insert(releases).values(**values))
            return Account(release_id, remaining, None)

    def settle(self, owner: str, dataset_id: str, release_id: str, release: Stored) -> Stored:
        """See `Ledger`."""
        place = (
            releases.c.owner == owner,
            releases.c.dataset_id == dataset_id,
            releases.c.release_id == release_id,
        )
        with self._database.write() as connection:
            values = {"reply": release.reply, "picture": release.picture}
            connection.execute(update(releases).where(*place, releases.c.reply.is_(None)).values(**values))
            kept = connection.execute(select(releases.c.reply, releases.c.picture).where(*place)).one()
        return Stored(bytes(kept.reply), bytes(kept.picture))

    def _releases(self, connection: Connection, owner: str, dataset_id: str) -> list[Row[tuple[object, ...]]]:
        mine = (releases.c.owner == owner, releases.c.dataset_id == dataset_id)
        return [*connection.execute(select(releases).where(*mine))]

    def _remaining(self, spent: list[Row[tuple[object, ...]]], charge: Charge | None) -> Remaining:
        """What is left after a charge; raises `BudgetSpent`."""
        epsilon = self._epsilon - sum((Decimal(row.epsilon) for row in spent), Decimal(0))
        delta = self._delta - sum((Decimal(row.delta) for row in spent), Decimal(0))
        if charge is not None:
            left = f"epsilon {max(epsilon, Decimal(0))} and delta {max(delta, Decimal(0))}"
            epsilon, delta = epsilon - exact(charge.epsilon), delta - exact(charge.delta)
            if epsilon < 0 or delta < 0:
                cost = f"epsilon {charge.epsilon:g} and delta {charge.delta:g}"
                raise BudgetSpent(f"this release costs {cost}; left for the data set are {left}")
        return Remaining(epsilon=max(0.0, float(epsilon)), delta=max(0.0, float(delta)))


def exact(number: float) -> Decimal:
    """The decimal number that was written, so that thirty times 0.1 is 3."""
    return Decimal(repr(number))
