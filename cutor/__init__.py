"""cutor: a remote code execution engine, an event-sourced pipeline on NATS JetStream."""

__version__ = "0.1.0"
