"""Where a bundle's own code begins."""

import os
import signal
import sys

if __name__ == "__main__":
    # Until the event loop takes the signals over, Ctrl-C ends the program at once instead of breaking an import.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from runtime.program.cli import main

    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not `sys.exit`: a thread may be inside llama.cpp, loading, and can't be interrupted; the interpreter's own end
    # would wait for it or pull the ground from under it.
    os._exit(status)
