"""Child containers: what they may do (pure), and the only importer of aiodocker.

Reading order: ``seccomp`` (the table of system calls), ``host_config`` (specifications as values), ``errors``,
``engine`` (Docker itself).
"""
