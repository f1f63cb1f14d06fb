"""Where bytes lie in a file: what the container finds and the engine loads."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Extent:
    """Where bytes lie: `size` bytes from `offset` on in the file at `path`."""

    path: Path
    offset: int
    size: int
