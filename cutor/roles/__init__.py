"""The roles: long-running processes that react to events. Builder and runner share ``loop``, and its ``handler``."""
