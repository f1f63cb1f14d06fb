"""Where a bundle's own code begins."""

import os
import sys

from runtime.cli import main

if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not `sys.exit`: a thread may be inside llama.cpp, loading, and can't be interrupted; the interpreter's own end
    # would wait for it or pull the ground from under it.
    os._exit(status)
