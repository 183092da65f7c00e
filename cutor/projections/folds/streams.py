"""How the messages of each stream that is folded are read."""

from __future__ import annotations

from typing import Final

from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections.folds.incoming import Incoming
from cutor.projections.folds.incoming_environments import IncomingEnvironments

INCOMING: Final[dict[str, type[Incoming] | type[IncomingEnvironments]]] = {EVENTS: Incoming, ENVIRONMENTS: IncomingEnvironments}
