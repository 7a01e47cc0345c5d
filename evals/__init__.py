"""powercut's evaluation harnesses: an HTTP client of the service that imports neither it nor the sampler."""
