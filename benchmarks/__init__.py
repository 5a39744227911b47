"""How fast the library is against the training loop that this field runs: `python -m benchmarks`."""
