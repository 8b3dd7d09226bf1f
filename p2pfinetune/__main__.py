"""`python -m p2pfinetune` is `p2pfinetune`."""

import sys

from p2pfinetune.cli import main

if __name__ == "__main__":  # processes of a sweep import this file under another name
    sys.exit(main())
