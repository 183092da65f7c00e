"""What runs inside a build container: standard library only, of the Python that the child image brings.

Reading order: ``build_init`` (the container's entry point), ``namespace``, ``daemon``, ``jails``, ``evaluate`` (the program in
the first jail), ``derivation`` and ``shell`` (what nix-shell would start), ``variables`` (what it left), ``store`` (closure and
roots); ``job``, ``files`` and ``progress`` serve them.
"""
