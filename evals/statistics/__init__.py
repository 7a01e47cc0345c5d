"""Error bars for benchmarks of a few dozen to a few hundred problems. Pure functions on numbers and arrays."""
