"""A runtime pack opened: the frozen runtime of one platform, ready to be welded to any model.

A pack is a directory {stub, runtime.pkg, pack.json, LICENSES/...}; who makes it is bundler/pack/freeze.py's business.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import RecipeError
from runtime.container import JSON


@dataclass(frozen=True)
class RuntimePack:
    """`facts` are pack.json: platform, versions of what is inside, the key of its inputs."""

    stub: Path
    pkg: Path
    facts: Mapping[str, JSON]
    licenses: tuple[tuple[str, bytes], ...]  # sorted by name, relative to LICENSES/

    def fact(self, name: str) -> str:
        """Return a fact as text, empty when the pack doesn't say."""
        value = self.facts.get(name)
        return "" if value is None else str(value)


def load_pack(directory: Path) -> RuntimePack:
    """Open a runtime pack; RecipeError when the directory isn't one."""
    stub, pkg, licenses = directory / "stub", directory / "runtime.pkg", directory / "LICENSES"
    try:
        facts = json.loads((directory / "pack.json").read_bytes())
        missing = next((path.name for path in (stub, pkg) if not path.is_file()), None)
        if missing or not isinstance(facts, dict):
            raise RecipeError(f"{directory}: not a runtime pack ({missing or 'pack.json'} is missing or broken)")
        files = sorted(path for path in licenses.rglob("*") if path.is_file())
        notices = tuple((path.relative_to(licenses).as_posix(), path.read_bytes()) for path in files)
    except OSError as error:
        reason = f"{error.strerror or error}: {error.filename}"
        raise RecipeError(f"{directory}: not a runtime pack ({reason})") from error
    except ValueError as error:
        raise RecipeError(f"{directory}: not a runtime pack (pack.json: {error})") from error
    return RuntimePack(stub, pkg, facts, notices)
