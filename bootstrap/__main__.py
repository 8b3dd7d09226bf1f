"""`python -m bootstrap` is `peerd-bootstrap`; see `peerd/__main__.py` for the current folder."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder, which `-m` puts there
    from bootstrap.cli import main

    main()
