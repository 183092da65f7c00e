"""Set-up of a machine: what `cutor setup` does, and `make setup` once the Python environment exists.

Modules named after what they set up; `steps` calls them in order. Pure decisions (which mirror, which packages,
what to do about the engine, what an image is a digest of) are functions without I/O, tested in `tests/unit/test_setup_*`.
`image/` and `nix/` hold what goes into the child image and into the offline package set: files, not modules of cutor.
"""
