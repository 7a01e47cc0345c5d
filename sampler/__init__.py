"""powercut's sampler: exact Entropy-Cut Metropolis–Hastings on a language model's power distribution.

The mathematics and the engines; it knows nothing of HTTP. Start at `methods.METHODS`, `engine.load_engine` and
`params.PowerParams`; the acceptance law stands in `power`.
"""
