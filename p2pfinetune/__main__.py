"""`python -m p2pfinetune` is `p2pfinetune`; see `peerd/__main__.py` for the current folder."""

import sys

if __name__ == "__main__":  # processes of a sweep import this file under another name
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder, which `-m` puts there
    from p2pfinetune.cli import main

    sys.exit(main())
