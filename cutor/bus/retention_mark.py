"""The mark of a limit that stands for a moment, in the metadata of the stream that it is set to. Pure."""

from __future__ import annotations

from typing import Final

MARK: Final = "cutor_expiring"
"""The key; the value is the last sequence that is to go. `cutor.projections.archive.retention` sets it and takes it away."""
