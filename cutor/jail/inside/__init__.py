"""What runs inside a child container: ``worker_init`` (its process 1), ``stage``, ``cgroup``, ``nsjail_args``, ``box``."""
