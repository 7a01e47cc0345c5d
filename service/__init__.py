"""powercut's HTTP service: it knows the sampler, never torch or vllm."""
