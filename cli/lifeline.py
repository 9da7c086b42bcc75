"""A child's lifeline: its stdin is a pipe that the supervisor holds open, so end-of-file means that it is gone.

That also covers `kill -9`, when a supervisor can tell nobody: no child goes on and keeps its port.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time


def exit_with_stdin(*, grace: float) -> None:
    """Send SIGTERM to this process when stdin ends; `grace` seconds and a little later, end it anyway."""
    threading.Thread(target=_watch, args=(grace,), name="lifeline", daemon=True).start()


def _watch(grace: float) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    # The process ends long before, unless it hangs.
    time.sleep(grace + 2)
    os._exit(1)
