"""`python -m tests.jobs.dying MOMENT serve …`: a server that is killed right after its ledger has done a thing once."""

import os
import signal
import sys
from functools import wraps
from typing import Any

from service.cli import main
from service.jobs.ledger import StoreLedger


def die_after(moment: str) -> None:
    """Have SIGKILL follow the ledger's `debit` or `settle`, as a power cut would: nobody is told, nothing closed."""
    whole = getattr(StoreLedger, moment)

    @wraps(whole)
    def last(*arguments: Any) -> Any:
        whole(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(StoreLedger, moment, last)


if __name__ == "__main__":
    die_after(sys.argv.pop(1))
    main()
