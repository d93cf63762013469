"""Benchmarks: each figure is a ratio to the bare thing, measured in the same run."""
