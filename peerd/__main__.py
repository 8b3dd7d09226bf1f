"""`python -m peerd` is `peerd`."""

import sys

from peerd.cli import main

sys.exit(main())
