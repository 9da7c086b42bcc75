"""The end of stdin ends a child, also one that hangs."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.databases import ROOT

CHILD = """
import signal, sys, threading
from cli.lifeline import exit_with_stdin
if sys.argv[1] == "hang":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
exit_with_stdin(grace=-1.9)
print("up", flush=True)
threading.Event().wait(20)
"""


@pytest.mark.parametrize(("how", "code"), [("obey", -signal.SIGTERM), ("hang", 1)])
def test_the_end_of_stdin_ends_the_process(how: str, code: int) -> None:
    command = [sys.executable, "-c", CHILD, how]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"up\n"
        child.stdin.write(b"whatever is written is ignored")
        child.stdin.flush()
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(10) == code
