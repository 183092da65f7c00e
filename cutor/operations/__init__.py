"""What a whole stack or host is asked to do at once: judge again, collect stores, list and try environments.

Reading order: ``catalogue`` (what the views know of environments), ``environment_report`` (what one says of itself),
``collection`` (this host's stores), ``rejudging``.
"""
