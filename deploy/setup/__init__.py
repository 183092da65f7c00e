"""Set-up of a machine: what `make setup` runs once the Python environment exists.

Modules named after what they set up; `__main__` calls them in order. Pure decisions (which mirror, which packages,
what to do about the engine, what an image is a digest of) are functions without I/O, tested in `tests/unit/test_setup_*`.
"""
