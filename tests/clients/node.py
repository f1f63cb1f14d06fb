"""JavaScript clients: npm puts them into a cache outside the checkout, and a script of a few lines drives one."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from bundler import cache
from tests.conftest import unavailable

_SECONDS_TO_INSTALL = 300
_SECONDS_TO_RUN = 60


def run_script(script: str, packages: tuple[str, ...], **environment: str) -> Any:
    """Run an ES module that imports `packages` (`name@version`), and return the JSON that it prints.

    Skips, with the reason, where Node isn't there or npm can't install.
    """
    node = shutil.which("node")
    if node is None:
        unavailable("there is no Node.js")
    folder = _installed(packages)
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


def _installed(packages: tuple[str, ...]) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        unavailable("there is no npm")
    folder = cache.root() / "npm" / "-".join(packages).replace("/", "-")
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        flags = ["--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts"]
        try:
            subprocess.run(
                [npm, "install", *flags, *packages], capture_output=True, timeout=_SECONDS_TO_INSTALL, check=True
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            unavailable(f"npm can't install {', '.join(packages)}: {error}")
        (folder / "installed").touch()
    return folder
