"""`python -m service`: the same as `powercut`."""

from service.cli import main

main()
