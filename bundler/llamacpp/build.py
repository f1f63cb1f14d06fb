"""llama.cpp's native libraries and their ctypes bindings, built from one pinned source.

The compiler is zig's clang from PyPI: the machine needs none, and naming an old glibc as the target makes libraries
that load on any Linux since RHEL 7, whatever this machine has.

One CPU backend per micro-architecture is built (`GGML_CPU_ALL_VARIANTS`) and chosen at run time: fast on every
processor, and never an illegal instruction on an old one. Each library is kept once, under the name it is looked up
by: the loader knows libraries by SONAME, and a second copy of ggml would have an empty list of backends.

It doesn't know what is frozen or who imports the result.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

import ziglang

from bundler import cache, elf
from bundler.errors import ToolchainError
from bundler.llamacpp import patch
from bundler.llamacpp.sdist import BINDINGS, LLAMA_CPP, NOTICES, SDIST_SHA256, sdist, unpack
from bundler.progress import Progress

TARGET = "x86_64-linux-gnu.2.17"
MAX_GLIBC = (2, 17)

# What the libraries don't need of the sources is left out, and so is what would look at this machine: its
# processor, its git, its OpenMP (zig has none).
CMAKE_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_SYSTEM_NAME=Linux",
    "-DCMAKE_SYSTEM_PROCESSOR=x86_64",
    "-DBUILD_SHARED_LIBS=ON",
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",
    "-DCMAKE_SHARED_LINKER_FLAGS=-s",
    "-DCMAKE_MODULE_LINKER_FLAGS=-s",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU_ALL_VARIANTS=ON",
    "-DGGML_NATIVE=OFF",
    "-DGGML_OPENMP=OFF",
    "-DGGML_CCACHE=OFF",
    "-DLLAMA_BUILD_COMMON=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_TOOLS=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_MTMD=ON",
    # Only for videos, which it hands to a program of the machine.
    "-DLLAMA_SUBPROCESS=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_NUMBER=0",
    "-DLLAMA_BUILD_COMMIT=unknown",
)

# clang 20 has the 512-bit registers behind a flag of its own, which llama.cpp's CMake files don't know.
COMPILER_WRAPPER = """\
#!/bin/sh
for word do
    shift
    set -- "$@" "$word"
    [ "$word" = -mavx512f ] && set -- "$@" -mevex512
done
exec "$HOLDALL_ZIG" {command} -target {target} "$@"
"""
ARCHIVER_WRAPPER = """\
#!/bin/sh
exec "$HOLDALL_ZIG" {command} "$@"
"""
WRAPPERS = {
    "zig-cc": COMPILER_WRAPPER.format(command="cc", target=TARGET),
    "zig-c++": COMPILER_WRAPPER.format(command="c++", target=TARGET),
    "zig-ar": ARCHIVER_WRAPPER.format(command="ar"),
    "zig-ranlib": ARCHIVER_WRAPPER.format(command="ranlib"),
}

_NINJA_STATUS = re.compile(r"\[(\d+)/(\d+)\]")


def libraries_key() -> str:
    tools = (version("ziglang"), version("cmake"))
    return cache.key_of(
        SDIST_SHA256, *tools, *CMAKE_OPTIONS, *WRAPPERS.values(), *patch.identity(), *BINDINGS, sys.platform
    )


def libraries(progress: Progress) -> Path:
    """The folder that holds the package `llama_cpp` (bindings, and one file per library in `lib`) and `LICENSES`.

    The first call fetches 75 MB and compiles for minutes; later ones find it in the cache.
    Raises SourceError when the sources can't be fetched, ToolchainError when a step fails.
    """
    if not sys.platform.startswith("linux"):
        raise ToolchainError(f"native libraries are built on Linux only so far; this is {sys.platform}")
    key = libraries_key()
    log = cache.root() / "llamacpp" / f"{key}.log"

    def make(folder: Path) -> None:
        work = folder / "work"
        unpack(sdist(progress), work / "source", progress)
        patch.apply(work / "source" / LLAMA_CPP)
        build(work, log, progress)
        collect(work, folder)
        shutil.rmtree(work)
        log.unlink()

    return cache.entry("llamacpp", key, make)


def build(work: Path, log: Path, progress: Progress) -> None:
    """Compile `work/source` in `work/build`; what the tools say goes to `log`."""
    wrappers = work / "wrappers"
    wrappers.mkdir()
    for name, text in WRAPPERS.items():
        (wrappers / name).write_text(text)
        (wrappers / name).chmod(0o755)
    environment = _environment(work)
    with log.open("w", encoding="utf-8") as file:
        progress.step("configuring llama.cpp (half a minute)")
        for line in _run(_configure_command(work, wrappers), environment, log):
            file.write(line)
        progress.step("compiling llama.cpp for every kind of processor (some minutes, once)")
        started = time.monotonic()
        # The target `llama` draws in ggml and every CPU backend; `mtmd` reads pictures and sounds.
        lines = _run([_tool("ninja"), "-C", str(work / "build"), "llama", "mtmd"], environment, log)
        for line in _followed(lines, started, progress):
            file.write(line)
        progress.step(f"compiled llama.cpp in {time.monotonic() - started:.0f} s")


def _configure_command(work: Path, wrappers: Path) -> list[str]:
    # The temporary folder's name must not reach the libraries: the same inputs give the same bytes.
    flags = f"-ffile-prefix-map={work}=."
    return [
        _tool("cmake"),
        *("-G", "Ninja", "-S", str(work / "source" / LLAMA_CPP), "-B", str(work / "build")),
        *(f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}", f"-DCMAKE_C_FLAGS={flags}", f"-DCMAKE_CXX_FLAGS={flags}"),
        *(f"-DCMAKE_C_COMPILER={wrappers / 'zig-cc'}", f"-DCMAKE_CXX_COMPILER={wrappers / 'zig-c++'}"),
        *(f"-DCMAKE_AR={wrappers / 'zig-ar'}", f"-DCMAKE_RANLIB={wrappers / 'zig-ranlib'}"),
        *CMAKE_OPTIONS,
    ]


def _environment(work: Path) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if name not in ("CFLAGS", "CXXFLAGS", "LDFLAGS")},
        "HOLDALL_ZIG": str(Path(ziglang.__file__).with_name("zig")),
        "ZIG_GLOBAL_CACHE_DIR": str(cache.root() / "zig"),
        "ZIG_LOCAL_CACHE_DIR": str(work / "zig"),
        "NINJA_STATUS": "[%f/%t] ",
        # Else the build asks git, which may find a repository around the cache, for a commit's name.
        "GIT_DIR": os.devnull,
    }


def _followed(lines: Iterator[str], started: float, progress: Progress) -> Iterator[str]:
    """Pass on what ninja says, and say now and then how far it is."""
    said = started
    for line in lines:
        now = time.monotonic()
        status = _NINJA_STATUS.match(line)
        if status and now - said >= progress.seconds_between_updates():
            said = now
            progress.say_running(f"compiling llama.cpp: {status[1]} of {status[2]} steps, {now - started:.0f} s")
        yield line


def _tool(name: str) -> str:
    path = shutil.which(name, path=sysconfig.get_path("scripts"))
    if path is None:
        raise ToolchainError(f"{name} is not in {sysconfig.get_path('scripts')}; run python3 build.py to install it")
    return path


def _run(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[str]:
    """The lines that a command says, as it says them."""
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield from process.stdout
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        raise ToolchainError(
            f"building llama.cpp failed: {Path(command[0]).name} ended with {process.returncode}; see {log}"
        )


def collect(work: Path, folder: Path) -> None:
    """Put the libraries, the bindings and the notices in their places under `folder`."""
    package = folder / "llama_cpp"
    (package / "lib").mkdir(parents=True)
    (package / "__init__.py").write_text('"""llama.cpp\'s C API; see the module llama_cpp."""\n')
    for name in BINDINGS:
        shutil.copyfile(work / "source" / "llama_cpp" / name, package / name)
    binaries = work / "build" / "bin"
    found = [binaries / name for name in ("libllama.so", "libmtmd.so", "libggml.so.0", "libggml-base.so.0")]
    for library in [*found, *sorted(binaries.glob("libggml-cpu-*.so"))]:
        copy = package / "lib" / library.name
        shutil.copyfile(library, copy)
        copy.chmod(0o755)
        check_glibc(copy)
    for source, target in NOTICES.items():
        notice = folder / "LICENSES" / target
        notice.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(work / "source" / source, notice)
    # zig links its libc++ and compiler runtime into each library.
    (folder / "LICENSES" / "libc++").mkdir()
    shutil.copyfile(
        Path(ziglang.__file__).with_name("lib") / "libcxx" / "LICENSE.TXT", folder / "LICENSES/libc++/LICENSE.TXT"
    )


def check_glibc(library: Path) -> None:
    """Refuse a library that needs a newer glibc than the oldest system a bundle is meant for."""
    needed = elf.needed_glibc(library.read_bytes())
    if needed > MAX_GLIBC:
        raise ToolchainError(
            f"{library.name} needs glibc {needed[0]}.{needed[1]}, newer than {MAX_GLIBC[0]}.{MAX_GLIBC[1]}: "
            "it would not load on older systems"
        )
