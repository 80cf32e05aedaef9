"""`python -m autofocus`."""

from autofocus.cli.__main__ import main

main()
