"""`python -m peerd` is `peerd`, but for the current folder: Python has looked for `peerd` there first.

From here on nothing is imported from there. The command `peerd` and `python -P -m peerd` never look.
"""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder, which `-m` puts there
    from peerd.cli import main

    sys.exit(main())
