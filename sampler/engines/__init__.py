"""Engines by name. The module is imported only when the engine is chosen, so heavy libraries cost nothing before."""

ENGINES: dict[str, str] = {
    "remote": "sampler.engines.remote:load",
    "tabular": "sampler.engines.tabular:load",
    "transformers": "sampler.engines.transformers:load",
    "vllm": "sampler.engines.vllm:load",
}
