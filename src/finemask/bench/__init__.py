"""Benchmarks: contenders timed side by side in one run, so that a noisy machine is noisy for all of them."""
