"""`python -m objectscape`."""

import sys

from objectscape.cli import main

if __name__ == "__main__":
    sys.exit(main())
