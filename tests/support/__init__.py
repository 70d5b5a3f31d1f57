"""Real components with a Python face, for tests, the demo and benchmarks."""
