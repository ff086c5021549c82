"""``python -m trionet``: the command, without being on the PATH."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
