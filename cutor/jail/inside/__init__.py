"""What runs inside a child container, on the standard library of Debian's python3-minimal.

Reading order: ``protocol`` (frames, which the host speaks too) and ``lean`` (in place of half of the standard library), then
``worker_init`` (process 1 of a runner's container), ``layout`` (what its jails are built from), ``closure``, ``stage`` (the
one stage routine), ``meter`` and ``measure`` (what it used, and what of it is reported), ``nsjail_args`` (the jail),
``jail_process`` and ``channel`` (nsjail and jail-init), ``kept_jail``, ``pumps``, ``cgroup``, ``resting``, ``box`` (the
submission's files), ``weigh``, ``traces``, ``host_link`` (frames to and from the host).
"""
