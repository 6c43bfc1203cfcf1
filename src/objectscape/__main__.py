"""`python -m objectscape`."""

import os
import sys

if sys.path and sys.path[0] == os.getcwd():  # as for the command: a random.py here is not Python's random
    del sys.path[0]

from objectscape.cli import main

if __name__ == "__main__":
    sys.exit(main())
