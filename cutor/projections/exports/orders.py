"""What goes over the wire between who wants the views as a file and who makes it: requests on the subject `SUBJECT`.

`Begin` has a file made; the answer names it, and so do the requests that follow. `Look` says how far that is. Once it is ready,
`Part` is answered by bytes of it, or by none where there is no such file. `End` gives it up: so does who asks for nothing for a
while. The file comes to who asks; nothing is written on the projector's host under a name that somebody sent.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from cutor.projections.queries.questions import AsOf

SUBJECT: Final = "cutor.projector.snapshot"
PART_BYTES: Final = 4 << 20
"""Half of the largest message that a server of ours takes."""
PATIENCE_S: Final = 30.0
"""A file for which nobody asks for so long is given up."""

State = Literal["making", "ready", "failed", "busy", "unknown"]


class Begin(msgspec.Struct, tag="begin", tag_field="order", kw_only=True):
    """Have a file made that holds all that is committed."""


class Look(msgspec.Struct, tag="look", tag_field="order", kw_only=True):
    """Say how far it is."""

    id: str
    """of the file, as the answer to `begin` has it"""


class Part(msgspec.Struct, tag="part", tag_field="order", kw_only=True):
    """Give the `PART_BYTES` behind an offset, or what there is of them."""

    id: str
    """of the file"""
    offset: int
    """in bytes, from 0 on"""


class End(msgspec.Struct, tag="end", tag_field="order", kw_only=True):
    """Give it up."""

    id: str
    """of the file"""


Order = Begin | Look | Part | End


class ExportReport(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How far a file is; ``error`` is one line where it failed."""

    state: State
    """`busy`: as many files are made as may be; `unknown`: there is none of that id, or not any more"""
    id: str = ""
    """what the orders that follow name it by"""
    size_bytes: int = 0
    """of the file, once it is `ready`"""
    as_of: dict[str, AsOf] = {}
    """up to where it holds each stream, once it is `ready`"""
    error: str = ""
    """why it failed, in one line"""
