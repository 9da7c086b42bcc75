"""`tollwatch migrate` of the later release, and its way back."""

from __future__ import annotations

import asyncio
import os
import sys

from cli.main import main
from store import migrate
from store.deadlines import Deadlines
from store.settings import Settings
from tests.store.next_release import next_release

with next_release():
    match sys.argv[1:]:
        case ["upgrade"]:
            sys.exit(main(["migrate"]))
        case ["downgrade", revision]:
            asyncio.run(migrate.downgrade(Settings.from_env(os.environ), Deadlines(), revision))
