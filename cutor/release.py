"""Which release of cutor this is. Pure."""

from typing import Final

RELEASE: Final = "0.1.0"
