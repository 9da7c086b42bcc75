"""`python -m sandbox`: the command line, and the life of the process."""

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from sandbox.clock import MAINNET_SLOT_MS
from sandbox.errors import CannotListen
from sandbox.stories import STORIES
from sandbox.world import KNOWLEDGE_PORT, Options, World

_STDIN = 0


def read_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line. Nothing is read from the environment."""
    default = Options()
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="An offline world of paying agents")
    add = parser.add_argument
    add("--host", default=default.host, help="address of every server (%(default)s)")
    add(
        "--port",
        type=_port,
        default=default.port,
        help="the chain's JSON-RPC (%(default)s); facilitator, market and knowledge listen on the next three",
    )
    add("--tollwatch-url", default=default.tollwatch_url, help="where agents report; '' for nowhere (%(default)s)")
    add("--tollwatch-key", default=default.tollwatch_key, help="their API key (%(default)s)")
    add("--seed", type=int, default=default.seed, help="decides wallets, prices and what is bought (%(default)s)")
    add(
        "--slot-ms",
        type=_at_least_one,
        default=default.slot_ms,
        help=f"length of a slot (%(default)s). Every run starts at slot unix_ms/{MAINNET_SLOT_MS}; a run with shorter "
        "slots gets ahead of that, so the next run on the same Tollwatch database would go back: for tests",
    )
    add("--confirmed-lag", type=_count, default=default.confirmed_lag, help="slots until confirmed (%(default)s)")
    add("--finalized-lag", type=_count, default=default.finalized_lag, help="slots until finalized (%(default)s)")
    add(
        "--story",
        type=_stories,
        default=default.story,
        metavar="NAME[,NAME]",
        help=f"which stories agents live through: {', '.join(STORIES)} (all; healthy with --purchases)",
    )
    add("--speed", type=_speed, default=default.speed, help="how much faster stories are told (%(default)s)")
    add("--cycles", type=_count, default=default.cycles, help="end each story after so many cycles; 0: endless")
    add(
        "--pace",
        type=_pace,
        default=default.pace,
        help="purchases a second and healthy agent; 0: no agents (%(default)s)",
    )
    add("--purchases", type=_count, default=default.purchases, help="end the healthy story after so many; 0: endless")
    add("--exit-with-stdin", action="store_true", help="shut down when standard input ends")
    arguments = parser.parse_args(argv)
    if arguments.confirmed_lag > arguments.finalized_lag:
        parser.error("--confirmed-lag must not exceed --finalized-lag")
    return arguments


def _number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    return read


_port = _number(1, 65535 - KNOWLEDGE_PORT)
_count = _number(0, 10**9)
_at_least_one = _number(1, 10**6)


def _decimal(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return value

    return read


_pace = _decimal(0, 1000)
_speed = _decimal(0.01, 1000)


def _stories(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    unknown = [name for name in names if name not in STORIES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(STORIES)}")
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to stop; the exit code."""
    arguments = vars(read_arguments(argv))
    exit_with_stdin = arguments.pop("exit_with_stdin")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        asyncio.run(_live(Options(**arguments), exit_with_stdin=exit_with_stdin))
    except CannotListen as exc:
        sys.stderr.write(f"sandbox: {exc}\n")
        return 1
    return 0


async def _live(options: Options, *, exit_with_stdin: bool) -> None:
    stop = asyncio.Event()
    _stop_on_signals(stop)
    if exit_with_stdin:
        _stop_on_stdin_end(stop)
    async with World(options) as world:
        _settle_garbage_collector()
        places = world.places
        ready = (
            f"chain {places.chain} facilitator {places.facilitator} market {places.market} knowledge {places.knowledge}"
        )
        sys.stdout.write(f"sandbox ready: {ready}\n")
        sys.stdout.flush()
        await stop.wait()


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows' loops have no signal handlers
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))


def _stop_on_stdin_end(stop: asyncio.Event) -> None:
    """Watch standard input in a thread: an event loop cannot wait for every kind of file that it may be.

    The thread reads the descriptor itself. Were it left inside sys.stdin's buffer, the interpreter could not exit.
    """
    loop = asyncio.get_running_loop()

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(_STDIN, 4096):
                pass
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is going already
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=watch, name="stdin", daemon=True).start()


def _settle_garbage_collector() -> None:
    """Keep collections short: passes over what lives as long as the process cost answers 100 ms and more."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


if __name__ == "__main__":
    sys.exit(main())
