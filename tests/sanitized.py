"""Run tests on llama.cpp's libraries built with AddressSanitizer and UndefinedBehaviorSanitizer.

    python tests/sanitized.py tests/runtime/engine -x

The arguments go to pytest; without any it runs the tests of the engine and the server. The libraries are made by the
machine's GCC from the sources and patches that a bundle's are made from, and are kept in the cache: the first run takes
a quarter of an hour. One kind of processor is built, that with AVX2.

A report ends the run, so that no report is one that nobody saw. Python gets its memory from malloc, because a ctypes
buffer in Python's own arenas is one that AddressSanitizer can't see the end of. Leaks aren't looked for: Python keeps
much until it exits, and so does llama.cpp.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from bundler import cache  # noqa: E402 - the line above makes it importable
from bundler.errors import BundlerError, ToolchainError  # noqa: E402
from bundler.llamacpp import patch  # noqa: E402
from bundler.llamacpp.build import CMAKE_OPTIONS  # noqa: E402
from bundler.llamacpp.sdist import BINDINGS, LLAMA_CPP, SDIST_SHA256, sdist, unpack  # noqa: E402
from bundler.progress import Progress  # noqa: E402

TESTS = ("tests/runtime/engine", "tests/runtime/chat", "tests/runtime/server")

# The standard library checks its indices, which it does in no bundle. llama.cpp's asserts are off, as there: some of
# them end the process where a bundle's library returns an error.
FLAGS = (
    "-O1",
    "-DNDEBUG",
    "-g1",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined,float-cast-overflow",
    "-D_GLIBCXX_ASSERTIONS",
    "-D_GLIBCXX_SANITIZE_VECTOR",
)
OTHER_THAN_IN_A_BUNDLE = {
    "CMAKE_BUILD_TYPE": "Debug",  # without a type llama.cpp takes Release
    "CMAKE_C_FLAGS_DEBUG": "",
    "CMAKE_CXX_FLAGS_DEBUG": "",
    "CMAKE_SHARED_LINKER_FLAGS": "",
    "CMAKE_MODULE_LINKER_FLAGS": "",
    "GGML_CPU_ALL_VARIANTS": "OFF",
    "CMAKE_C_COMPILER": "gcc",
    "CMAKE_CXX_COMPILER": "g++",
}
WHAT_IS_NEEDED = "apt-get install gcc g++"  # the sanitizers come along
TOOLS = Path(sysconfig.get_path("scripts"))  # of this environment, whether it is activated or not
LIBRARIES = ("libllama.so", "libmtmd.so", "libggml.so.0", "libggml-base.so.0", "libggml-cpu.so")


def sanitized_libraries(progress: Progress) -> Path:
    """The folder that holds the package `llama_cpp` with sanitized libraries, made where the cache lacks it.

    Raises SourceError when the sources can't be fetched, ToolchainError when a step fails.
    """
    options = [option for option in CMAKE_OPTIONS if option[2:].split("=")[0] not in OTHER_THAN_IN_A_BUNDLE]
    options += [f"-D{name}={value}" for name, value in OTHER_THAN_IN_A_BUNDLE.items()]
    compiler = said_by(["gcc", "--version"])
    key = cache.key_of(SDIST_SHA256, compiler, *FLAGS, *options, *patch.identity(), *BINDINGS)

    def make(folder: Path) -> None:
        sources = folder / "source"
        unpack(sdist(progress), sources, progress)
        patch.apply(sources / LLAMA_CPP)
        build = folder / "build"
        # The folder is renamed once it is complete; reports name the sources from there on.
        flags = " ".join([*FLAGS, f"-ffile-prefix-map={folder}=."])
        options.extend(f"-DCMAKE_{language}_FLAGS={flags}" for language in ("C", "CXX"))
        progress.step("compiling llama.cpp with sanitizers (a quarter of an hour, once)")
        options.append(f"-DCMAKE_MAKE_PROGRAM={TOOLS / 'ninja'}")
        run([TOOLS / "cmake", "-G", "Ninja", "-S", sources / LLAMA_CPP, "-B", build, *options])
        run(["nice", TOOLS / "ninja", "-C", build, "llama", "mtmd"])
        collect(sources, build, folder / "llama_cpp")
        shutil.rmtree(build)

    return cache.entry("sanitized", key, make)


def collect(sources: Path, build: Path, package: Path) -> None:
    """Lay out the bindings and the libraries as `llama_cpp` expects them. The sources stay, for reports' sake."""
    (package / "lib").mkdir(parents=True)
    (package / "__init__.py").touch()
    for name in BINDINGS:
        shutil.copyfile(sources / "llama_cpp" / name, package / name)
    for name in LIBRARIES:
        shutil.copyfile(build / "bin" / name, package / "lib" / name)


def run(command: list[str | Path]) -> None:
    """Run a step of the build; what it says goes to the terminal. Raises ToolchainError when it fails."""
    environment = {**os.environ, "GIT_DIR": os.devnull}
    try:
        status = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
    except OSError as error:
        raise ToolchainError(f"can't run {command[0]}: {error.strerror}") from error
    if status != 0:
        raise ToolchainError(f"{' '.join(map(str, command))} ended with {status}; see above")


def said_by(command: list[str]) -> str:
    """Return the output of a command. Raises ToolchainError when there is none."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ToolchainError(f"{command[0]} can't be used here: {WHAT_IS_NEEDED}") from error


def environment_for(libraries: Path) -> dict[str, str]:
    """Return the environment in which Python loads `libraries` and ends at the first report."""
    # libstdc++ comes along because AddressSanitizer looks for what C++ throws when it starts.
    preloaded = [said_by(["gcc", f"-print-file-name={name}"]) for name in ("libasan.so", "libstdc++.so")]
    if not all(map(os.path.isabs, preloaded)):
        raise ToolchainError(f"GCC has no AddressSanitizer here: {WHAT_IS_NEEDED}")
    common = "halt_on_error=1:print_stacktrace=1:abort_on_error=1"
    return {
        **os.environ,
        "LD_PRELOAD": ":".join(preloaded),
        "ASAN_OPTIONS": f"{common}:detect_leaks=0:strict_string_checks=1:allow_user_segv_handler=0",
        "UBSAN_OPTIONS": f"{common}",
        "PYTHONMALLOC": "malloc",
        # Before the folder of a bundle's libraries, which this environment knows by a .pth file.
        "PYTHONPATH": str(libraries),
    }


def main(arguments: list[str]) -> int:
    try:
        environment = environment_for(sanitized_libraries(Progress(sys.stderr)))
    except BundlerError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_status
    # pytest would keep what reaches the standard error's descriptor to itself until the end, which a report forestalls.
    command = [sys.executable, "-m", "pytest", "--capture=sys", *(arguments or TESTS)]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
