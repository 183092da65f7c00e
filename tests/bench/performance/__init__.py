"""How fast cutor is beside what the machine can do at all: `python -m tests.bench.performance`, or `make bench`."""
