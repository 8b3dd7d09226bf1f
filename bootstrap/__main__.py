"""`python -m bootstrap` is `peerd-bootstrap`."""

from bootstrap.cli import main

main()
