"""Limits in JSON that are too large for msgspec: it says where they are, but they are to be refused with value and maximum.

So they are read as whole numbers that Python can hold: `cutor.model.limits.resolve` refuses those, as others over the maximum.
"""

from __future__ import annotations

import math
import re
from typing import Final, TypeVar

import msgspec

Shape = TypeVar("Shape", bound=msgspec.Struct)

_NUMBER: Final = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_MOST_DIGITS: Final = 4000
"""As many are read by msgspec, and by Python, which refuses more than 4300. So large a number has more than `SHOWN_BITS`."""
_ENDLESS: Final = 1e15
"""No document is so long that an exponent needs to be larger: ``0.000…1e…``."""


def decode_request(raw: bytes, shape: type[Shape]) -> Shape:
    """Return a request in JSON, a struct of ``shape``, also where a limit is too large to be read.

    Such a one becomes a whole number that is as large, or of 4000 digits if that is less. Raises what msgspec raises.
    """
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as error:
        if not str(error).startswith(("Number out of range", "Integer value out of range")):
            raise
    fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    if "limits" in fields:
        fields["limits"] = _cut(fields["limits"], depth=2)
    return msgspec.json.decode(msgspec.json.encode(fields), type=shape)


def _cut(value: msgspec.Raw, depth: int) -> msgspec.Raw:
    """Return a JSON value without numbers that msgspec does not read, in objects down to a depth: a stage, a limit."""
    text = bytes(value).decode()
    if depth and text.startswith("{"):
        inner = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
        return msgspec.Raw(msgspec.json.encode({name: _cut(item, depth - 1) for name, item in inner.items()}))
    return msgspec.Raw(found) if (found := _whole(text)) else value


def _whole(text: str) -> str:
    """Return a whole number in place of one that is too large; nothing for a float, or what is no number."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return ""
    sign, whole, fraction, exponent = found.groups(default="")
    if (fraction or exponent) and math.isfinite(float(text)):
        return ""
    digits = (whole + fraction).lstrip("0")
    count = len(digits) - len(fraction) + min(float(exponent or 0), _ENDLESS)
    if count > _MOST_DIGITS:
        return sign + "9" * _MOST_DIGITS
    return sign + (digits[: int(count)].ljust(int(count), "0") or "0")
