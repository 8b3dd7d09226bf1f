"""`python -m bootstrap` is `peerd-bootstrap`."""

import sys

from bootstrap.cli import main

sys.exit(main())
