"""Environments: the key of one, its build in a child container, what the build gives.

Reading order: ``key``, ``settings``, ``report``, ``messages``, ``session`` on the host; ``inside`` is the other end, which runs
in the child image with Python's standard library alone.
"""
