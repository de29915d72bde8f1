"""Runs several commands of fedlab in one interpreter, and prints each one's code and output.

Reads a list of argument lists from standard input and writes a list of ``[code, output, errors]``.
"""

import contextlib
import io
import json
import sys

from fedlab.cli.app import main

results = []
for arguments in json.load(sys.stdin):
    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["fedlab", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    results.append([code, out.getvalue(), err.getvalue()])
json.dump(results, sys.stdout)
