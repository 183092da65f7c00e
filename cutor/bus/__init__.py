"""The event log: the only package that imports nats. It knows bytes, subjects and headers, not what they mean.

Reading order: ``errors``, ``message``, ``link``, ``api``, ``reading``, ``appending``, ``connection`` (the `Bus`), ``pull``, ``reader``,
``turns``, ``consumer``, ``bodies``, ``topology``, ``topology_file``, ``embedded``.
Pure: ``message``, ``turns``, ``topology_file``, ``topology.diff``, ``appending.judge``, ``pull.PullWindow``.
"""
