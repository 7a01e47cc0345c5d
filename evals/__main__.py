"""`python -m evals` is `powercut-eval`."""

from evals.cli import main

main()
