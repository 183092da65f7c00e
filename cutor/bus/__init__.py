"""The event log: the only package that imports nats. It knows bytes, subjects and headers, not what they mean.

Reading order: ``errors``, ``message``, ``address``, ``tls``, ``tolerant``, ``connecting``, ``permission``, ``link``,
``api``, ``reading``, ``following``, ``publish_ack``, ``appending``, ``connection`` (the `Bus`), ``pull``, ``inbox``,
``reader``, ``turns``, ``delivery``, ``consumer``, ``subscription``, ``bodies``, ``topology_diff``,
``topology_promises``, ``topology_file``, ``restoring``, ``topology``, ``backup_manifest``, ``backup``,
``die_with_parent``, ``server_file``, ``ports``, ``embedded``, ``letting_go``;
``lean`` for the command line.
Modules that say "Pure." of themselves decide, and import nothing of the bus that does not: a test checks that.
"""
