"""Benchmarks: pytest bench/bench_SUBJECT.py."""
