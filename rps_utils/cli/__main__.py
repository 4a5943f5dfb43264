"""``python -m rps_utils.cli``: the same as ``rps``."""

import sys

# Python puts the working folder first; a `random.py` beside the user's data must not be imported.
if not sys.flags.safe_path:
    del sys.path[0]

from rps_utils.cli.main import main

main()
