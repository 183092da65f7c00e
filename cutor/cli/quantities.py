"""Times and sizes as people write them on a command line: ``30d``, ``12h``, ``20GiB``."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import click

from cutor.model.quoting import shown

_NUMBER: Final = re.compile(r"(\d{1,15}) ?([A-Za-z]+)", re.ASCII)
MOST: Final = 1 << 62
"""The largest quantity, in its smallest unit: a signed number of 64 bits holds it."""


class _Quantity(click.ParamType[int]):
    """A whole number with a unit."""

    units: ClassVar[dict[str, int]]
    example: ClassVar[str]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number in the smallest unit; fail for what is none."""
        if isinstance(value, int):
            return value
        found = _NUMBER.fullmatch(str(value))
        if found is None or found[2] not in self.units or int(found[1]) * self.units[found[2]] > MOST:
            units = ", ".join(self.units)
            self.fail(
                f"{shown(str(value))} is no {self.name}: a whole number with one of {units}, such as {self.example}", param, ctx
            )
        return int(found[1]) * self.units[found[2]]


class Span(_Quantity):
    """A time, in seconds."""

    name = "time"
    units: ClassVar[dict[str, int]] = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
    example = "30d"


class Size(_Quantity):
    """A size, in bytes."""

    name = "size"
    units: ClassVar[dict[str, int]] = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
    example = "20GiB"
