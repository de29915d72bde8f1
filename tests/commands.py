"""Runs several commands of fedlab in one fresh interpreter, which has folders of plug-ins."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_commands(folder, *lines, packages=()):
    """Run commands in a folder.

    Args:
        folder: Working folder.
        *lines: Arguments of each command, without ``fedlab``; ``-c`` and a text run it as Python.
        packages: Folders to import from beside the project's own.

    Returns:
        Exit code, standard output and standard error of each command.
    """
    path = os.pathsep.join(map(str, [*packages, ROOT]))
    done = subprocess.run(
        [sys.executable, __file__],
        cwd=folder,
        input=json.dumps([[str(part) for part in line] for line in lines]),
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "250", "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def call(arguments):
    from fedlab.cli.app import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["fedlab", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            exec(arguments[1], {}) if arguments[0] == "-c" else main()
        except SystemExit as end:
            code = end.code or 0
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())  # as the command has it, not the folder of this file
    json.dump([call(line) for line in json.load(sys.stdin)], sys.stdout)
