"""Python clients that don't belong in this environment: pip puts them into a cached folder, and a script drives one.

Only the packages named are put there; what they need besides is in the environment already. So a client that brings
an event loop or a framework of its own changes no other test.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bundler import cache
from tests.conftest import unavailable

_SECONDS_TO_INSTALL = 300
_SECONDS_TO_RUN = 120


def run_script(script: str, packages: tuple[str, ...], **environment: str) -> Any:
    """Run a script that imports `packages` (`name==version`), and return the JSON of its last line.

    Skips, with the reason, where pip can't install.
    """
    folder = installed(packages)
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=_SECONDS_TO_RUN,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONIOENCODING": "utf-8", **environment},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.split("\n")[-2])  # not splitlines: a client may print other line ends


def installed(packages: tuple[str, ...]) -> Path:
    folder = cache.root() / "pip" / "-".join(packages)
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder)]
        try:
            subprocess.run([*pip, *packages], capture_output=True, timeout=_SECONDS_TO_INSTALL, check=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            unavailable(f"pip can't install {', '.join(packages)}: {error}")
        (folder / "installed").touch()
    return folder
