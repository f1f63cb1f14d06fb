"""`python -m bundler` is `holdall`."""

import sys

from bundler.cli import main

sys.exit(main())
