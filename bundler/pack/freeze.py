"""The runtime pack: everything of a bundle but the model, frozen once and welded to any number of models.

A pack is a folder with the bootloader (`stub`), PyInstaller's archive (`runtime.pkg`), facts about both
(`pack.json`) and the licences of all that is inside, which `licences` finds. This is the only user of PyInstaller; it
doesn't know models, containers or what the runtime does.
"""

import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

from bundler import cache, elf
from bundler.errors import ToolchainError
from bundler.llamacpp.build import libraries, libraries_key
from bundler.llamacpp.sdist import SDIST_NAME
from bundler.pack import licences, page
from bundler.progress import Progress
from runtime import __version__

# The one place that says which Python is frozen. A bundle runs on systems with its glibc or a newer one.
PYTHON = Path(sys.executable)

# The parts of the standard library and of our dependencies that the runtime never imports.
EXCLUDES = (
    *("_pydecimal", "curses", "distutils", "doctest", "ensurepip", "idlelib", "lib2to3", "pdb", "pydoc", "pydoc_data"),
    *("pytest", "_pytest", "packaging", "anyio.pytest_plugin", "_codecs_cn", "_codecs_hk", "_codecs_iso2022"),
    *("_codecs_jp", "_codecs_kr", "_codecs_tw", "_multibytecodec"),
    *("sqlite3.dump", "test", "tkinter", "turtledemo", "unittest", "xmlrpc", "bz2", "lzma", "readline"),
    *("llguidance", "numpy", "pip", "pkg_resources", "setuptools", "wheel", "rich", "trio", "exceptiongroup"),
    *("httptools", "uvloop", "watchfiles", "websockets", "wsproto", "yaml", "dotenv", "a2wsgi", "httpx", "multipart"),
    *("uvicorn.workers", "uvicorn.supervisors.watchfilesreload", "starlette.testclient", "starlette.schemas"),
)

# What of llama.cpp the runtime imports, at times late.
BINDINGS = ("llama_cpp.llama_cpp", "llama_cpp.mtmd_cpp")

# Of this package the runtime imports the extension module alone; the Python around it would draw in much of the above.
BARE_EXTENSIONS = ("llguidance._lib",)

_ROOT = Path(__file__).parents[2]
_SPEC = Path(__file__).with_name("runtime.spec")
# 1980-01-01, the first day that a ZIP can name.
_EPOCH = "315532800"
_TIMEOUT_SECONDS = 900
# PyInstaller calls two tools of binutils, and scripts that always succeed do for both: objdump says whether a file with
# ELF's signature is a library, and objcopy marks the bootloader as one whose archive lies in a file beside it, which a
# bundle's does not. So no machine needs binutils, and the bootloader's bytes depend on no version of it.
_SHIMS = ("objdump", "objcopy")
_SHIM = "#!/bin/sh\nexit 0\n"


def runtime_pack(progress: Progress) -> Path:
    """The pack's folder, from the cache when nothing that goes into it has changed.

    Raises ToolchainError when something is missing on this machine or PyInstaller fails.
    """
    built = libraries(progress)
    key = pack_key()
    log = cache.root() / "runtime" / f"{key}.log"

    def make(folder: Path) -> None:
        _check_python()
        progress.step("freezing the runtime (about a minute)")
        work = folder / "work"
        freeze(built, work, log)
        shutil.move(work / "dist" / "stub", folder / "stub")
        shutil.move(work / "dist" / "stub.pkg", folder / "runtime.pkg")
        contents = json.loads((work / "contents.json").read_text())
        (folder / "LICENSES").mkdir()
        (folder / "LICENSES" / "third-party.txt").write_bytes(_licences(contents, built, work, progress))
        (folder / "pack.json").write_text(json.dumps(_facts(folder), indent=2, sort_keys=True) + "\n")
        shutil.rmtree(work)
        log.unlink()

    return cache.entry("runtime", key, make)


def pack_key() -> str:
    """A name for all that goes into a pack: our files, the libraries, Python, and what is installed beside it."""
    ours = sorted(path for name in ("runtime", "webclient") for path in (_ROOT / name).rglob("*") if _is_frozen(path))
    contents = [f"{path.relative_to(_ROOT).as_posix()} {cache.sha256_of(path)}" for path in ours]
    makers = [_SPEC, *(Path(module) for module in (__file__, elf.__file__, page.__file__, licences.__file__))]
    contents += [cache.sha256_of(path) for path in (*makers, _python_library() or PYTHON.resolve())]
    packages = sorted(f"{package.name}=={package.version}" for package in distributions())
    return cache.key_of(libraries_key(), sys.version, platform.machine(), *contents, *packages)


def _is_frozen(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def _python_library() -> Path | None:
    """Python's shared library, where this Python has one of its own beside it."""
    name = sysconfig.get_config_var("INSTSONAME") or sysconfig.get_config_var("LDLIBRARY")
    path = Path(sysconfig.get_config_var("LIBDIR") or "", name or "")
    return path if path.is_file() and ".so" in path.name else None


def _check_python() -> None:
    """Refuse a Python that can't be frozen, in words, before PyInstaller does at length."""
    if _python_library() is not None:
        return
    name = sysconfig.get_config_var("INSTSONAME") or ""
    minor = f"python{sys.version_info.major}.{sys.version_info.minor}"
    try:
        if ".so" in name:
            ctypes.CDLL(name)
            return
    except OSError:
        raise ToolchainError(f"Python's shared library is missing; install it: apt-get install lib{minor}") from None
    raise ToolchainError(
        f"{PYTHON} was built without a shared library and can't be frozen; use the system's Python "
        f"(apt-get install {minor} lib{minor}) or build one with --enable-shared"
    )


def freeze(built: Path, work: Path, log: Path) -> None:
    """Run PyInstaller; afterwards `work` holds `dist/stub`, `dist/stub.pkg` and `contents.json`."""
    shims = work / "shims"
    shims.mkdir(parents=True)
    for name in _SHIMS:
        (shims / name).write_text(_SHIM)
        (shims / name).chmod(0o755)
    if shutil.which("ldd") is None:
        raise ToolchainError("ldd is missing; install it: apt-get install libc-bin")
    page.pack_page(_ROOT / "webclient", work / "webclient")
    environment = {
        **os.environ,
        "HOLDALL_FREEZE": json.dumps(_spec_inputs(built, work)),
        "PATH": os.pathsep.join([str(shims), os.environ.get("PATH", os.defpath)]),
        "PYINSTALLER_CONFIG_DIR": str(work / "config"),
        "PYINSTALLER_ZLIB_COMPRESSION_LEVEL": "9",
        "PYTHONPATH": str(_ROOT),
        # Code objects keep the order of sets, and archives keep times.
        "PYTHONHASHSEED": "1",
        "SOURCE_DATE_EPOCH": _EPOCH,
    }
    _run_pyinstaller(work, environment, log)


def _spec_inputs(built: Path, work: Path) -> dict[str, object]:
    """Return what runtime.spec reads from $HOLDALL_FREEZE."""
    names = [".".join(path.relative_to(_ROOT).with_suffix("").parts) for path in (_ROOT / "runtime").rglob("*.py")]
    return {
        "root": str(_ROOT),
        "page": str(work / "webclient"),
        "libraries": str(built),
        "work": str(work),
        "modules": sorted([*(name.removesuffix(".__init__") for name in names), *BINDINGS]),
        "excludes": EXCLUDES,
        "extensions": [extension_module(name) for name in BARE_EXTENSIONS],
    }


def _run_pyinstaller(work: Path, environment: Mapping[str, str], log: Path) -> None:
    command = [str(PYTHON), "-m", "PyInstaller", "--noconfirm", "--log-level=WARN", str(_SPEC)]
    command += ["--distpath", str(work / "dist"), "--workpath", str(work / "build")]
    with log.open("wb") as file:
        try:
            done = subprocess.run(
                command,
                env=environment,
                cwd=work,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ToolchainError(f"PyInstaller did not finish within {_TIMEOUT_SECONDS} s; see {log}") from None
    if done.returncode != 0:
        raise ToolchainError(f"freezing the runtime failed: PyInstaller ended with {done.returncode}; see {log}")


def extension_module(name: str) -> tuple[str, str]:
    """Return where an extension module lies, and the folder of a bundle where it is to lie. Imports nothing."""
    package, _, tail = name.rpartition(".")
    found = find_spec(package)
    places = list(found.submodule_search_locations or ()) if found else []
    for place in places:
        for path in sorted(Path(place).glob(f"{tail}.*")):
            if path.name.endswith(tuple(EXTENSION_SUFFIXES)):
                return str(path), package
    raise ToolchainError(f"the package {package} has no extension module {tail}; run python3 build.py to install it")


def _licences(contents: Mapping[str, list[str]], built: Path, work: Path, progress: Progress) -> bytes:
    """Return all licences of what is frozen as one text; `contents` is what the spec says that it froze."""
    folder = work / "licences"
    shutil.copytree(built / "LICENSES", folder)
    licences.collect_licences([*contents["modules"], *BARE_EXTENSIONS], folder)
    for library in licences.collect_system_licences(map(Path, contents["libraries"]), folder):
        progress.note(f"warning: no licence found for {library}, which bundles will carry")
    return licences.joined(folder)


def _facts(folder: Path) -> dict[str, object]:
    members = {
        name: {"sha256": cache.sha256_of(folder / name), "size": (folder / name).stat().st_size}
        for name in ("stub", "runtime.pkg")
    }
    return {
        "members": members,
        "platform": f"{sys.platform}-{platform.machine()}",
        "python": platform.python_version(),
        "libc": "-".join(platform.libc_ver()),
        "llama_cpp": SDIST_NAME,
        "tool_version": __version__,
    }
