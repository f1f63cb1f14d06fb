"""Where a bundle's own code begins."""

import os
import signal
import sys

from runtime import child

if __name__ == "__main__":
    # Until the event loop takes the signals over, Ctrl-C ends the program at once instead of breaking an import.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1:2] == [child.WORD]:
        status = child.serve(*sys.argv[2:])
    else:
        from runtime.program.cli import main

        status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not `sys.exit`: a thread may be inside llama.cpp, loading, and can't be interrupted; the interpreter's own end
    # would wait for it or pull the ground from under it.
    os._exit(status)
