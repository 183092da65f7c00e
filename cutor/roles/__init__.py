"""The roles: long-running processes that react to events. ``loop`` is what builder and runner share."""
