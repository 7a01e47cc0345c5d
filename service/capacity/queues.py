"""How long work waits for a place: Little's law and Erlang's formula."""

import math


def erlang_c(servers: int, offered: float) -> float:
    """Probability of having to wait in M/M/c, with `offered` = arrivals · service time < servers; 1 from there on.

    By the B formula, a Poisson probability over a Poisson sum: ten thousand servers overflow nothing.
    """
    if offered >= servers:
        return 1.0
    if offered == 0.0:
        return 0.0
    from scipy.special import pdtr  # here, so that the commands that plan nothing start without it

    log_term = servers * math.log(offered) - offered - math.lgamma(servers + 1)
    blocked = math.exp(log_term) / float(pdtr(servers, offered))
    return blocked / (1 - offered / servers * (1 - blocked))


def mean_wait_s(servers: int, arrivals_per_s: float, service_s: float) -> float:
    """Mean seconds in the queue; infinite where more arrives than is served."""
    offered = arrivals_per_s * service_s
    if offered >= servers:
        return math.inf
    return erlang_c(servers, offered) * service_s / (servers - offered)
