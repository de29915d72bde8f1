"""``python -m fedlab`` is the command ``fedlab``."""

from fedlab.cli.app import main

main()
