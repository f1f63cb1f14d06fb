"""`python -m bundler.llamacpp.development` makes `import llama_cpp.llama_cpp` work in this environment, for tests.

It builds the libraries where the cache lacks them and names their folder in a `.pth` file.
"""

import sys
import sysconfig
from pathlib import Path

from bundler.errors import BundlerError
from bundler.llamacpp.build import libraries
from bundler.progress import Progress


def link(folder: Path, site_packages: Path) -> None:
    """Put `folder` on this environment's `sys.path`."""
    (site_packages / "holdall-llamacpp.pth").write_text(f"{folder}\n", encoding="utf-8")


def main() -> int:
    try:
        link(libraries(Progress(sys.stderr)), Path(sysconfig.get_path("purelib")))
    except BundlerError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
