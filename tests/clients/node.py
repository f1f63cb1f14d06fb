"""JavaScript clients: npm puts them into a cache outside the checkout, and a script of a few lines drives one."""

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bundler import cache
from tests.conftest import unavailable

_SECONDS_TO_INSTALL = 300
_SECONDS_TO_RUN = 60


def run_script(
    script: str, packages: tuple[str, ...], neighbours: Mapping[str, str] | None = None, **environment: str
) -> Any:
    """Run an ES module that imports `packages` (`name@version`), and return the JSON that it prints.

    With `neighbours`, names and CommonJS sources of modules, the packages are put there alone, and those stand in for
    what they need. Skips, with the reason, where Node isn't there or npm can't install.
    """
    node = shutil.which("node")
    if node is None:
        unavailable("there is no Node.js")
    folder = _folder(packages, _install if neighbours is None else _unpack)
    for name, source in (neighbours or {}).items():
        module = folder / "node_modules" / name / "index.js"
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(source, encoding="utf-8")
    path = folder / "script.mjs"  # beside node_modules, which is where imports are looked for
    path.write_text(script, encoding="utf-8")
    ran = subprocess.run(
        [node, str(path)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=_SECONDS_TO_RUN,
        env={**os.environ, **environment},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def _folder(packages: tuple[str, ...], fill: Callable[[Path, tuple[str, ...]], None]) -> Path:
    """Return the folder whose `node_modules` holds the packages."""
    if shutil.which("npm") is None:
        unavailable("there is no npm")
    folder = cache.root() / "npm" / "-".join(packages).replace("/", "-")
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            fill(folder, packages)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            unavailable(f"npm can't install {', '.join(packages)}: {error}")
        (folder / "installed").touch()
    return folder


def _install(folder: Path, packages: tuple[str, ...]) -> None:
    _npm("install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", *packages)


def _unpack(folder: Path, packages: tuple[str, ...]) -> None:
    for package in packages:
        name, _at, _version = package.rpartition("@")
        (archive,) = json.loads(_npm("pack", "--json", "--pack-destination", str(folder), package))
        with tarfile.open(folder / archive["filename"]) as packed:
            for member in packed.getmembers():  # every path begins with "package/"
                member.name = member.name.partition("/")[2]
                packed.extract(member, folder / "node_modules" / name)


def _npm(*arguments: str) -> bytes:
    ran = subprocess.run(["npm", *arguments], capture_output=True, timeout=_SECONDS_TO_INSTALL, check=True)
    return ran.stdout
