"""The configuration file of the embedded server: what is in it, and what it says when it is read again.

`deploy/nats/single.conf` explains the same settings.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cutor.bus.address import INBOX
from cutor.bus.errors import BusError

NOBODY_MAY: Final = ["$JS.API.STREAM.DELETE.>", "$JS.API.STREAM.PURGE.>", "$JS.API.STREAM.MSG.DELETE.>"]
"""Requests that would end the log, refused against mistakes: deny_delete and deny_purge do not stop a stream's own deletion.

Not against attackers: an answer of JetStream goes to whatever subject who has the credential asks for, past all permissions.
"""
USER: Final = "cutor"
RETENTION_USER: Final = "cutor-retention"
"""The one that may have EVENTS let go of what is sealed, where all else is done by `USER`; see `cutor.bus.letting_go`."""
MAY_LET_GO: Final = [
    *("$JS.API.INFO", "$JS.API.STREAM.INFO.EVENTS", "$JS.API.DIRECT.GET.EVENTS", "$JS.API.STREAM.MSG.GET.EVENTS"),
    *("$JS.API.STREAM.INFO.BODIES", "$JS.API.STREAM.PURGE.EVENTS", "$JS.API.STREAM.PURGE.BODIES"),
]
"""What `RETENTION_USER` may ask for, and nothing else. It has the password of `USER`: this, too, guards against mistakes."""
DEFAULT_SYNC: Final = "2m"
ALWAYS_SYNC: Final = "always"
SYNC: Final = re.compile(r"always|[1-9][0-9]{0,5}(ms|s|m|h)", re.ASCII)
"""When written data is forced to the disk: at every append, before it is acknowledged, or so often."""
CONFIGURATION_FILE: Final = "nats-server.conf"
MAX_PAYLOAD_BYTES: Final = 8 << 20
"""Largest message; the streams' max_msg_size says the same."""
MAX_MEMORY_BYTES: Final = 256 << 20
"""JetStream's memory store: only the short-lived consumers of readers are in it."""
LOGIN_TIMEOUT_S: Final = 10
"""How long a client may take to say who it is; NATS's own 2 s turn away who is 1 s away."""
LOG_BYTES: Final = 16 << 20
"""The log starts anew after so many bytes; one old one is kept."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What `server_configuration` writes; `sync_interval` is a duration of NATS (`2m`) or `always` (every write, slower)."""

    directory: Path
    host: str
    port: int
    password: str
    sync_interval: str = DEFAULT_SYNC
    feature_flags: bool = True

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.directory / "nats-server.log"


def server_configuration(settings: ServerSettings) -> str:
    """The text of the configuration file. Pure."""
    if not SYNC.fullmatch(settings.sync_interval):
        raise BusError(f"sync_interval {settings.sync_interval!r} is neither a duration such as 2m nor `always`")
    flags = "feature_flags { js_ack_fc_v2: false }\n" if settings.feature_flags else ""
    return (
        f"# Written by cutor at every start; changes are lost.\n"
        f'server_name: "cutor-embedded"\n'
        f'listen: "{settings.host}:{settings.port}"\n'
        f"max_payload: {MAX_PAYLOAD_BYTES}\n"
        f"log_file: {quoted(str(settings.log))}\n"
        f"logfile_size_limit: {LOG_BYTES}\n"
        f"logfile_max_num: 2\n"
        f"{flags}"
        f"jetstream {{\n"
        f"  store_dir: {quoted(str(settings.directory))}\n"
        f"  max_memory_store: {MAX_MEMORY_BYTES}\n"
        f'  sync_interval: "{settings.sync_interval}"\n'
        f"  strict: true\n"
        f"}}\n"
        f"authorization {{ timeout: {LOGIN_TIMEOUT_S}, users: [ {{\n"
        f'  user: "{USER}"\n'
        f'  password: "{settings.password}"\n'
        f"  permissions: {{ publish: {{ deny: {json.dumps(NOBODY_MAY)} }} }}\n"
        f"}}, {{\n"
        f'  user: "{RETENTION_USER}"\n'
        f'  password: "{settings.password}"\n'
        f"  permissions: {{\n"
        f"    publish: {{ allow: {json.dumps(MAY_LET_GO)} }}\n"
        f'    subscribe: {{ allow: ["{INBOX}.{RETENTION_USER}.>"] }}\n'
        f"  }}\n"
        f"}} ] }}\n"
    )


def quoted(text: str) -> str:
    """A string of the server's configuration language; refuses control characters, which it cannot hold."""
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
        raise BusError(f"the path {text!r} has a control character: choose another data directory")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def sync_interval_of(directory: Path) -> str | None:
    """When the server of this directory forces what it writes to the disk; None where that cannot be read."""
    try:
        text = (directory / CONFIGURATION_FILE).read_text()
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(r'^  sync_interval: "(\w+)"$', text, re.MULTILINE | re.ASCII)
    return None if found is None else found[1]
