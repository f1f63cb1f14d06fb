"""Packages from npm that tests need, each of one version, installed once into the cache."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def installed(package: str) -> Path:
    """Return the folder `node_modules` in which `package` lies, given as `NAME@VERSION`.

    Skips the test where the package isn't in the cache and can't be had: without npm, or without a network.
    """
    folder = Path(os.environ.get("HOLDALL_CACHE", Path.home() / ".cache" / "holdall")) / "npm" / folder_name(package)
    modules = folder / "node_modules"
    name = package.rpartition("@")[0]
    if (modules / name / "package.json").is_file():
        return modules
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"npm is not installed, and {package} is not in the cache")
    folder.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", package]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{package} can't be had: npm took too long")
    if done.returncode != 0:
        pytest.skip(f"{package} can't be had: {done.stderr[-200:]}")
    return modules


def folder_name(package: str) -> str:
    return package.lstrip("@").replace("/", "-").replace("@", "-")
