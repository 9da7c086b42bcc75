"""Stand-ins for the children of `up`, and an `up` that runs them: the real ones are slow, and not what is tested here.

python -m tests.cli.stand_in child PORT      answers every GET with 200, until SIGTERM or the end of stdin
python -m tests.cli.stand_in up              like `tollwatch up`, with such children
"""

from __future__ import annotations

import argparse
import asyncio
import http.server
import os
import sys
from dataclasses import replace

from cli import main as command_line
from cli.lifeline import exit_with_stdin
from cli.plan import Plan, children_of, make_plan
from cli.supervisor import ChildSpec
from cli.up import run
from store.deadlines import Deadlines
from store.settings import Settings


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(os.getpid()).encode())


def child(port: int) -> None:
    exit_with_stdin(grace=1)
    sys.stdout.write(f"stand-in {os.getpid()} listens on {port}\n")
    sys.stdout.flush()
    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()


def children(plan: Plan, database_url: str) -> list[ChildSpec]:
    ports = {"api": plan.settings.port, "collector": plan.settings.collector_port}
    own = (sys.executable, "-m", "tests.cli.stand_in", "child")
    real = [spec for spec in children_of(plan, database_url) if spec.name in ports]
    if "TOLLWATCH_TEST_CRASH" in plan.environ:
        return [replace(spec, command=(sys.executable, "-c", f"exit('error: {spec.name} is broken')")) for spec in real]
    return [replace(spec, command=(*own, str(ports[spec.name]))) for spec in real]


def up(arguments: argparse.Namespace, environ: os._Environ[str]) -> int:
    plan = make_plan(Settings.from_env(environ), environ)
    return asyncio.run(run(plan, Deadlines(shutdown=3), children=children))


if __name__ == "__main__":
    if sys.argv[1] == "child":
        child(int(sys.argv[2]))
    else:
        command_line.commands.up = up
        sys.exit(command_line.main(["up", "--no-sandbox"]))
