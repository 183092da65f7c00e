"""The streams and consumers that a configuration asks for: `streams.yaml`, shipped or the deployer's own, for its tenants."""

from __future__ import annotations

from pathlib import Path

from cutor.bus.errors import TopologyError
from cutor.bus.topology import default_text
from cutor.bus.topology_diff import Topology
from cutor.bus.topology_file import parse
from cutor.config import Config


def wanted(config: Config, file: Path | None = None) -> Topology:
    """Return the topology of ``file``, else of the configured one, else of the shipped one, with as many copies as configured.

    Raises `TopologyError`.
    """
    topology = _read(config, file)
    return topology if config.server.replicas is None else topology.with_replicas(config.server.replicas)


def _read(config: Config, file: Path | None) -> Topology:
    if file is None and config.server.streams is not None:
        file = Path(config.server.streams)
    tenants = sorted(config.tenants)
    if file is None:
        return parse(default_text(), tenants)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise TopologyError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TopologyError(f"{file}: not UTF-8 text") from error
    return parse(text, tenants, source=str(file))
