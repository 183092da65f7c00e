"""Measurements, run by hand and never as tests: `python -m tests.bench.NAME`."""
