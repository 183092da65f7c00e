"""What runs inside a child container, on the standard library of Debian's python3-minimal.

Reading order: ``worker_init`` (process 1 of a runner's container), ``stage`` (the one stage routine), ``measure`` (from what is
seen to what is reported), ``nsjail_args`` (the jail), ``jail_process`` and ``channel`` (nsjail and jail-init),
``kept_jail``, ``pumps``, ``cgroup``, ``box`` (the submission's files), ``traces``, ``host_link`` (frames to and from the host).
"""
