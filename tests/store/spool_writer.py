"""A process that appends to a spool and says what was acknowledged; killed, traced or left to end by test_spool.

usage: spool_writer.py FOLDER [COUNT]
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from store.spool.appender import Spool
from store.spool.folder import SpoolFolder


async def main(folder: str, count: int) -> None:
    spool = Spool(
        SpoolFolder(Path(folder), max_bytes=1024**3, lock_seconds=5),
        segment_bytes=64 * 1024,
        clock=lambda: datetime.now(UTC),
    )
    spool.folder.prepare()  # not `open`: what the others left is the test's to find
    os.write(1, b"ready\n")
    for number in range(count):
        name = b"%x-%d" % (os.getpid(), number)
        await spool.append(name + b" " + os.urandom(number % 5000), 1)
        os.write(1, name + b"\n")
    await spool.close()


asyncio.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10**9))
