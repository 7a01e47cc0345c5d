"""For processes that tests interrupt."""

import signal


def hear_interrupts() -> None:
    """Tests that a shell has put into the background ignore interrupts, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
