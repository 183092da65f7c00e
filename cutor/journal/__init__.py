"""The journal: the events of submissions and of environments, appended behind a fence, read, and folded.

Reading order: ``errors``, ``contents`` (what is too large for an event), ``journal`` (a submission's events), ``history`` (one
folded), ``past`` (what a stream has let go of), ``environments``, ``stack_policy`` and ``versions`` (what a stack publishes of
itself), ``build_progress``; then what operators do with it: ``parked``, ``dead_letters``, ``replay``, ``backup``,
``redelivery``.
"""
