"""Write grafana/dashboards/*.json: `python -m grafana.generate`, in the checkout. The output is the same every time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from grafana import breakers, fleet, payments, tollwatch
from grafana.boards import Board, build
from grafana.sdk import JSONEncoder

DASHBOARDS = Path(__file__).parent / "dashboards"
BOARDS: Mapping[str, Callable[[], Board]] = {
    "fleet": fleet.board,
    "breakers": breakers.board,
    "payments": payments.board,
    "tollwatch": tollwatch.board,
}


def render(board: Board) -> str:
    """The JSON text of one dashboard."""
    return json.dumps(build(board), cls=JSONEncoder, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every dashboard."""
    for name, make in BOARDS.items():
        path = DASHBOARDS / f"{name}.json"
        path.write_text(render(make()), encoding="utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
