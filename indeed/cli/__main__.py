"""``python -m indeed.cli``, as torchrun starts a training."""

import sys

from indeed.cli import main

if __name__ == "__main__":
    sys.exit(main())
