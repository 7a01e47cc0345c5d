"""Many replicas of the service on Ray Serve: `powercut serve --ray`, or a Serve config file.

Ray places, restarts, balances and scales; nothing distributed is our own. Each replica is the same application on an
engine of its own, and a request with all its chains stays on one replica. Ray is imported where it is used, since it
is an extra.

`options.py` how many replicas and on what, `replica.py` one replica, `scaling.py` when there should be more of them,
`metrics.py` the counters of all, `deployment.py` what Serve is told, `proxy.py` what Serve's HTTP proxy would get
wrong, `command.py` the command from start to stop.
"""
