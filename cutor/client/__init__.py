"""The Python client: what a producer's program imports, as ``from cutor import Client``.

Reading order: ``client`` (submit, follow, cancel, query), ``waiting`` (how it waits for an end), ``submission_directory`` (a
directory as a request), ``progress`` (events in a few words).
"""
