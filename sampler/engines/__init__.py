"""Engines by name. The module is imported only when the engine is chosen, so heavy libraries cost nothing before."""

ENGINES: dict[str, str] = {
    "tabular": "sampler.engines.tabular:load",
    "transformers": "sampler.engines.transformers:load",
}
