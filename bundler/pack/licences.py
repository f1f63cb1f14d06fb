"""The licences of all that is inside a runtime pack, collected by component and joined to one text.

It finds them where they are kept: beside an installed package's metadata, beside Python's standard library, and, for
the system's libraries, where Debian keeps notices.
"""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib.metadata import Distribution, packages_distributions
from importlib.metadata import distribution as installed
from pathlib import Path

from bundler.errors import ToolchainError

_IS_LICENCE = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS")


def collect_licences(modules: list[str], folder: Path) -> None:
    """Copy the licences of Python and of every package whose modules are in the pack."""
    owners = packages_distributions()
    tops = {module.split(".")[0] for module in modules} - {"runtime", "llama_cpp"}
    for name in sorted({owner for top in tops for owner in owners.get(top, ())} | {"pyinstaller"}):
        licences = _licences_of(installed(name))
        if not licences:
            raise ToolchainError(f"the package {name} is frozen into bundles but carries no licence file")
        (folder / name).mkdir()
        for path in licences:
            shutil.copyfile(path, folder / name / path.name)
    (folder / "python").mkdir()
    shutil.copyfile(_python_licence(), folder / "python" / "LICENSE.txt")


def collect_system_licences(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Copy the notices of the system's libraries as Debian keeps them; return the libraries that have none."""
    without = []
    for path in paths:
        found = [line.split(":")[0] for line in _dpkg_search(path.resolve())]
        notices = [notice for name in found if (notice := Path("/usr/share/doc", name, "copyright")).is_file()]
        if notices:
            (folder / found[0]).mkdir(exist_ok=True)
            shutil.copyfile(notices[0], folder / found[0] / "copyright")
        else:
            without.append(path)
    return without


def joined(folder: Path) -> bytes:
    """All notices of `<folder>/<component>/` as one text: in a bundle, each file would begin at a 64 KiB boundary."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sections = []
    for path in files:
        title = path.relative_to(folder).as_posix().encode()
        sections.append(title + b"\n" + b"=" * len(title) + b"\n\n" + path.read_bytes().strip() + b"\n")
    return b"\n\n".join(sections)


def _dpkg_search(path: Path) -> list[str]:
    """Who owns a file, as lines "package:architecture: path"; nothing where there is no dpkg."""
    if shutil.which("dpkg") is None:
        return []
    # A file of a merged /usr is known by the name it had in its package, which may lack the /usr.
    for name in (str(path), str(path).removeprefix("/usr")):
        done = subprocess.run(["dpkg", "-S", name], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            return done.stdout.splitlines()
    return []


def _licences_of(package: Distribution) -> list[Path]:
    files = [Path(str(package.locate_file(file))) for file in package.files or () if ".dist-info" in str(file)]
    return [path for path in files if path.is_file() and path.name.upper().startswith(_IS_LICENCE)]


def _python_licence() -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = [Path(sysconfig.get_path("stdlib")) / "LICENSE.txt", Path("/usr/share/doc") / version / "copyright"]
    for path in places:
        if path.is_file():
            return path
    raise ToolchainError(f"Python's licence is not at {places[0]}; bundles must carry it: reinstall Python")
