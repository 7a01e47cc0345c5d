"""A capacity model: tokens a request draws, seconds a step takes, GPUs that so many requests a second need.

`tokens` counts what a method draws, `shape` sizes a model, `hardware` has data sheets, `replica` turns them into
tokens per second, `cluster` adds up. Pure functions of numbers; `docs/scale.md` explains and checks them.
"""
