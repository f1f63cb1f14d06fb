"""The container: an executable that is also a ZIP archive of the model and everything said about it; both directions.

    offset 0   stub           PyInstaller's bootloader
               ┌ members, all STORED, the data of each at a multiple of 64 KiB
               │  holdall.json   the manifest: names, sizes and sha256 of all the others, in their order
               │  .args          optional
               │  <model>.gguf
               │  LICENSES/...
               └  runtime.pkg    PyInstaller's archive; its bootloader finds it from the end of the file
    end        central directory (ZIP64 when needed)

Why a gap and not padding: an extra field holds at most 65,535 bytes and our alignment may need more, so the bytes
that align a member lie *before* its local header, where no reader of ZIPs looks. All offsets count from the start of
the file, stub included, so `unzip -t` and `python3 -m zipfile -l` accept a bundle as it is.

Reading looks at the central directory, the manifest and 30 bytes of each local header; no model byte is touched, and
so a bundle that is altered inside a member passes here: `bundler/bundle/verify.py` hashes. A file that was cut short
has no directory; that it was a bundle shows in the manifest's local header, which ends at a 64 KiB boundary near the
front.

This module knows nothing of GGUF, settings or the bundler.
"""

import hashlib
import json
import os
import struct
import time
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import IO, Any, TypeAlias

from runtime.errors import ContainerError
from runtime.extent import Extent

FORMAT_VERSION = 1
ALIGNMENT = 65536  # covers pages of 4, 16 and 64 KiB, so that a member can be mapped where it lies
MANIFEST_NAME = "holdall.json"
ARGS_NAME = ".args"
RUNTIME_NAME = "runtime.pkg"

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

_LOCAL_HEADER = struct.Struct("<4s5H3L2H")  # APPNOTE.TXT 4.3.7
_LOCAL_SIGNATURE = b"PK\x03\x04"
_MAX_STUB_BYTES = 16 << 20  # how far from the front the manifest of a truncated bundle is looked for
_MAX_TEXT_BYTES = 16 << 20  # manifest and .args are read whole; a larger one is damage
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # what a ZIP can say
_LATEST = (2107, 12, 31, 23, 59, 58)
# What zipfile raises for a directory that is damaged: it checks signatures, but unpacks and decodes without a net.
_DAMAGE = (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OverflowError, EOFError, IndexError)


class MemberKind(Enum):
    """What a member is for."""

    MODEL = "model"
    DRAFT = "draft"
    PROJECTOR = "mmproj"
    LORA = "lora"
    ARGS = "args"
    LICENSE = "license"
    RUNTIME = "runtime"


@dataclass(frozen=True)
class Member:
    """One member as the manifest promises it; size in bytes."""

    name: str
    kind: MemberKind
    size: int
    sha256: str


@dataclass(frozen=True)
class Face:
    """What the page shows and says; API clients get none of it. `icon` is a data URL.

    `system` is the prompt that the page's chats begin with: API clients bring their own. Chats are kept under `id`, by
    default the bundle's name: with one, a bundle can be renamed and keep its chats.
    """

    id: str = ""
    icon: str = ""
    welcome: str = ""
    suggestions: tuple[str, ...] = ()
    system: str = ""


@dataclass(frozen=True)
class Manifest:
    """What a bundle says about itself; `members` are all but the manifest, in the order they lie in the file.

    `model` holds facts of the first model (bundler/bundle/gguf.py). `defaults` holds values by the names of settings'
    fields; they hold for every client, the page and API alike, and `face` for the page alone.
    """

    name: str
    members: tuple[Member, ...]
    description: str = ""
    model: Mapping[str, JSON] = field(default_factory=dict)
    defaults: Mapping[str, JSON] = field(default_factory=dict)
    license: str = ""
    source: str = ""
    platform: str = ""
    tool_version: str = ""
    format_version: int = FORMAT_VERSION
    face: Face = field(default_factory=Face)

    def to_json(self) -> bytes:
        """Return the bytes of holdall.json, the same for the same manifest."""
        value = asdict(self) | {
            "members": [asdict(member) | {"kind": member.kind.value} for member in self.members],
        }
        return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """Parse holdall.json; ContainerError when it is damaged or of a newer format.

        Fields it doesn't know are ignored: a later holdall may add some without changing the format's version.
        """
        try:
            value = json.loads(data)
            version = _typed(value, "format_version", int)
            if version > FORMAT_VERSION:
                raise ContainerError(
                    f"made by a newer holdall (format {version}, this one reads {FORMAT_VERSION}); use a newer holdall"
                )
            members = tuple(_parse_member(member) for member in _typed(value, "members", list))
            if len({member.name for member in members} - {MANIFEST_NAME}) != len(members):
                raise ValueError("members: names are not unique")
            texts = {name: _typed(value, name, str) for name in _TEXT_FIELDS}
            mappings = {name: _typed(value, name, dict) for name in ("model", "defaults")}
            # Bundles made before there were faces have none.
            face = _parse_face(_typed(value, "face", dict)) if "face" in value else Face()
            return cls(members=members, format_version=version, face=face, **texts, **mappings)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ContainerError(f"altered: {MANIFEST_NAME} can't be read ({error})") from error


_TEXT_FIELDS = ("name", "description", "license", "source", "platform", "tool_version")


def _parse_member(value: Any) -> Member:
    size = _typed(value, "size", int)
    if size < 0:
        raise ValueError("a member's size is negative")
    return Member(_typed(value, "name", str), MemberKind(value["kind"]), size, _typed(value, "sha256", str))


def _parse_face(value: Any) -> Face:
    texts = {name: _typed(value, name, str) for name in ("id", "icon", "welcome", "system") if name in value}
    suggestions = _typed(value, "suggestions", list) if "suggestions" in value else []
    if not all(isinstance(suggestion, str) for suggestion in suggestions):
        raise TypeError("face: a suggestion is no text")
    return Face(suggestions=tuple(suggestions), **texts)


def _typed(value: Any, name: str, kind: type) -> Any:
    found = value[name]
    if type(found) is not kind:  # not isinstance: true is an int to Python
        raise TypeError(f"{name} is {type(found).__name__}, not {kind.__name__}")
    return found


@dataclass(frozen=True)
class Container:
    """An opened bundle: its manifest and where each member lies. Holds no file open."""

    path: Path
    manifest: Manifest
    extents: Mapping[str, Extent]  # by name, the manifest's own included

    def extent(self, name: str) -> Extent:
        """Return where a member lies; ContainerError when there is none of that name."""
        if name not in self.extents:
            raise ContainerError(f"{self.path}: has no member {name}")
        return self.extents[name]

    def model(self) -> Extent | None:
        """Return where the model lies, or None for a bundle without one."""
        return next(iter(self.extents_of(MemberKind.MODEL)), None)

    def extents_of(self, kind: MemberKind) -> list[Extent]:
        """Return where the members of a kind lie, in the manifest's order."""
        return [self.extent(member.name) for member in self.manifest.members if member.kind is kind]

    def sha256(self, extent: Extent) -> str:
        """Return the hash that the manifest promises for a member's bytes; empty for bytes that are no member's."""
        return next((m.sha256 for m in self.manifest.members if self.extents[m.name] == extent), "")

    def args(self) -> list[str]:
        """Return the default command-line arguments: one a line, blank lines and those with # left out."""
        if ARGS_NAME not in self.extents:
            return []
        try:
            with self.path.open("rb") as file:
                text = _read_extent(file, self.extents[ARGS_NAME]).decode()
        except (OSError, ValueError) as error:
            raise ContainerError(f"{self.path}: {ARGS_NAME} can't be read ({error})") from error
        lines = (line.strip() for line in text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]


def open_container(path: Path) -> Container:
    """Open a bundle; ContainerError when it is none, or is truncated, altered or of a newer format."""
    container = locate(path)
    if container is None:
        raise ContainerError(f"{path}: not a holdall bundle")
    return container


def locate(executable: Path) -> Container | None:
    """Return the container that an executable carries, None when it carries none; else as `open_container`."""
    try:
        with executable.open("rb") as file:
            return _read_container(executable, file)
    except OSError as error:
        raise ContainerError(f"{executable}: can't be read ({error.strerror or error})") from error
    except ContainerError as error:
        raise ContainerError(f"{executable}: {error}") from error
    except _DAMAGE as error:
        raise ContainerError(f"{executable}: altered: {error}") from error


def _read_container(path: Path, file: IO[bytes]) -> Container | None:
    try:
        archive = zipfile.ZipFile(file)
    except _DAMAGE as error:
        if _starts_like_a_bundle(file):
            raise ContainerError("truncated or altered: its directory is gone; get the file again") from error
        return None
    with archive:
        found = {info.filename: info for info in archive.infolist()}
        if MANIFEST_NAME not in found:
            if _starts_like_a_bundle(file):
                raise ContainerError("altered: its directory has lost the manifest; get the file again")
            return None
        extents = {name: _locate_data(path, file, info, archive.start_dir) for name, info in found.items()}
        manifest_bytes = _read_extent(file, extents[MANIFEST_NAME])
        if zlib.crc32(manifest_bytes) != found[MANIFEST_NAME].CRC:
            raise ContainerError(f"altered: {MANIFEST_NAME} has another checksum; get the file again")
        manifest = Manifest.from_json(manifest_bytes)
        _check_promises(manifest, extents)
        return Container(path, manifest, extents)


def _locate_data(path: Path, file: IO[bytes], info: zipfile.ZipInfo, end: int) -> Extent:
    """Return where a member's data lies, checking that its local header is there and that all lies before `end`."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    name = _printable(info.filename)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(_LOCAL_SIGNATURE):
        raise ContainerError(f"altered: no header where {name} should begin; get the file again")
    name_length, extra_length = _LOCAL_HEADER.unpack(header)[-2:]
    extent = Extent(path, info.header_offset + _LOCAL_HEADER.size + name_length + extra_length, info.file_size)
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
        raise ContainerError(f"altered: {name} is compressed or encrypted; bundles are not to be repacked")
    if extent.offset % ALIGNMENT:
        raise ContainerError(f"altered: {name} has been moved; bundles are not to be repacked")
    if extent.offset + extent.size > end or info.compress_size != info.file_size:
        raise ContainerError(f"altered: {name} runs past its end; get the file again")
    return extent


def _check_promises(manifest: Manifest, extents: Mapping[str, Extent]) -> None:
    promised = {member.name: member.size for member in manifest.members}
    actual = {name: extent.size for name, extent in extents.items() if name != MANIFEST_NAME}
    for name in sorted(promised.keys() | actual.keys()):
        if promised.get(name) != actual.get(name):
            wanted, found = _in_bytes(promised.get(name)), _in_bytes(actual.get(name))
            raise ContainerError(f"altered: {_printable(name)} should have {wanted} but has {found}")


def _printable(name: str) -> str:
    """Return a name that a damaged or hostile directory gives as something a terminal can be sent."""
    return name if name.isprintable() else repr(name)


def _in_bytes(size: int | None) -> str:
    return "no place" if size is None else f"{size} bytes"


def _read_extent(file: IO[bytes], extent: Extent) -> bytes:
    if extent.size > _MAX_TEXT_BYTES:
        raise ValueError(f"{extent.size} bytes are too many")
    file.seek(extent.offset)
    return file.read(extent.size)


def _starts_like_a_bundle(file: IO[bytes]) -> bool:
    """Whether a manifest's local header ends at one of the first 64 KiB boundaries."""
    header_bytes = _LOCAL_HEADER.size + len(MANIFEST_NAME)
    for boundary in range(ALIGNMENT, _MAX_STUB_BYTES + 1, ALIGNMENT):
        file.seek(boundary - header_bytes)
        header = file.read(header_bytes)
        if len(header) < header_bytes:
            return False
        if header.startswith(_LOCAL_SIGNATURE) and header.endswith(MANIFEST_NAME.encode()):
            return True
    return False


class Writer:
    """Writes a container after the stub that `file` already holds: the manifest now, then each member, then `close`.

    `file` must be seekable and empty past its position; the gaps are sought over. Members come in the manifest's order
    and are checked against it while they stream, so a source that changes between hashing and packing can't slip in.
    """

    def __init__(self, file: IO[bytes], manifest: Manifest) -> None:
        # zipfile takes the position it finds as the start and makes every offset count from the start of the file.
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED)
        self._date_time = _timestamp()
        self._expected = list(reversed(manifest.members))
        data = manifest.to_json()
        try:
            self._append(MANIFEST_NAME, len(data), [data])
        except BaseException:
            self.abandon()
            raise

    def add(self, name: str, chunks: Iterable[bytes]) -> None:
        """Stream the next member in; ContainerError unless it is what the manifest promises."""
        if not self._expected or self._expected[-1].name != name:
            raise ValueError(f"{name} is not the manifest's next member")
        member = self._expected.pop()
        size, sha256 = self._append(name, member.size, chunks)
        if (size, sha256) != (member.size, member.sha256):
            raise ContainerError(f"{name} changed while it was being packed; try again")

    def close(self) -> None:
        """Write the central directory; the file itself stays open."""
        if self._expected:
            raise ValueError(f"{self._expected[-1].name} was promised but never added")
        self._zip.close()

    def abandon(self) -> None:
        """Give up without a directory. Not done, zipfile would still write one when it is garbage-collected."""
        self._zip.fp = None

    def _append(self, name: str, size: int, chunks: Iterable[bytes]) -> tuple[int, str]:
        info = zipfile.ZipInfo(name, self._date_time)
        info.CRC = 0  # known when the data is written; the header has its room either way
        info.create_system = 3  # Unix, wherever this runs
        info.external_attr = 0o100644 << 16
        # Said here and not left to zipfile, whose rule depends on whether it knows the size beforehand.
        is_zip64 = size > zipfile.ZIP64_LIMIT
        header_bytes = len(info.FileHeader(zip64=is_zip64))
        # start_dir is where zipfile puts the next local header; nothing but this makes room before one.
        self._zip.start_dir += -(self._zip.start_dir + header_bytes) % ALIGNMENT
        num_written = 0
        digest = hashlib.sha256()
        with self._zip.open(info, "w", force_zip64=is_zip64) as member:
            for chunk in chunks:
                num_written += len(chunk)
                if num_written > size:
                    raise ContainerError(f"{name} changed while it was being packed; try again")
                digest.update(chunk)
                member.write(chunk)
        return num_written, digest.hexdigest()


def _timestamp() -> tuple[int, int, int, int, int, int]:
    """Return the time written on every member: SOURCE_DATE_EPOCH (reproducible-builds.org), else the earliest."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not epoch.isdecimal():
        return _EARLIEST
    try:
        moment = time.gmtime(int(epoch))
    except (OverflowError, OSError, ValueError):
        return _LATEST
    year, month, day, hour, minute, second = moment[:6]
    return min(max((year, month, day, hour, minute, second), _EARLIEST), _LATEST)
