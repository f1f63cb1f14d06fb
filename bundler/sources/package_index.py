"""A project of a package index, as pip sees one: its files, and one of them downloaded and checked by its hash.

Whatever goes wrong between an index and us becomes a SourceError that names the project. It doesn't know what is in
the files.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from pypi_simple import (
    DigestMismatchError,
    DistributionPackage,
    NoDigestsError,
    NoSuchProjectError,
    PyPISimple,
    UnsupportedContentTypeError,
    UnsupportedRepoVersionError,
)

from bundler.errors import HashMismatch, SourceError
from bundler.progress import ByteCounter, Progress

_TIMEOUT = (15.0, 60.0)  # seconds to connect, and between two pieces


class Project:
    """A project of the index at an address. Methods block; they raise SourceError, in words."""

    def __init__(self, index: str, name: str) -> None:
        self._index = index
        self._name = name

    def files(self) -> list[DistributionPackage]:
        """Return what the index lists of the project, of all versions and kinds."""
        with self._connected() as index:
            return index.get_project_page(self._name, timeout=_TIMEOUT).packages

    def download(self, file: DistributionPackage, folder: Path, progress: Progress) -> Path:
        """Return where in `folder` the file now lies; HashMismatch when it isn't what its digest promises."""
        path, label = folder / file.filename, f"downloading {file.filename}"
        with self._connected() as index:
            index.download_package(
                file, path, timeout=_TIMEOUT, progress=lambda total: _Tracker(progress.bytes(label, total))
            )
        return path

    def download_pinned(self, file_name: str, sha256: str, folder: Path, progress: Progress) -> Path:
        """Download the file of that name; HashMismatch when its sha256 is another, whatever the index says."""
        file = next((file for file in self.files() if file.filename == file_name), None)
        if file is None:
            raise SourceError(f"pypi:{self._name}: {self._index} has no {file_name}; is it a complete mirror?")
        # Ours and not the index's: a mirror is trusted no further than PyPI was when this was pinned.
        file.digests = {"sha256": sha256}
        return self.download(file, folder, progress)

    @contextmanager
    def _connected(self) -> Iterator[PyPISimple]:
        host, wanted = urlsplit(self._index).hostname or self._index, f"pypi:{self._name}"
        try:
            with PyPISimple(self._index) as index:
                yield index
        except NoSuchProjectError as error:
            raise SourceError(f"{wanted}: {host} has no such package") from error
        except DigestMismatchError as error:
            raise HashMismatch(wanted, error.expected_digest, error.actual_digest) from error
        except (NoDigestsError, UnsupportedContentTypeError, UnsupportedRepoVersionError) as error:
            raise SourceError(f"{wanted}: {host} doesn't answer like a package index") from error
        except requests.HTTPError as error:
            raise SourceError(f"{wanted}: {host} answered {error.response.status_code}; try again later") from error
        except requests.RequestException as error:
            raise SourceError(f"{wanted}: {host} can't be reached; check the connection and try again") from error


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
