"""One stack on this machine: the embedded server and the roles in one process tree, from ``cutor up`` to ``cutor down``.

Reading order: ``data`` (the data directory), ``lock`` (who is alive), ``stop_times`` (how long an end may take),
``current`` (how commands find the stack), ``restarts``, ``process`` (a child),
``keeper`` and ``server`` (a process that comes back), ``role_process`` (the other side of that), ``preflight`` (what must
be there), ``sweep`` (what must not be left), ``images`` (what names of images mean), ``supervisor`` (all of it), ``detach``
and ``stopping`` (from the outside).
"""
