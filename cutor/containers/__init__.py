"""Child containers: what they may do (pure), and the only importer of aiodocker.

Reading order: ``seccomp`` (the table of system calls), ``labels`` (what tells whose one is), ``host_config`` (specifications as
values), ``control_group`` (what the host does there), ``errors`` and ``remedies`` (what a user is told), ``engine`` (Docker
itself), ``pause`` (the network of a runner's containers), ``connecting`` (for who may need none).
"""
