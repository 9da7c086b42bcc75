"""The database engine: one pool per process, driver errors turned into ours, deadlines on every session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg
from psycopg import errors as pg
from sqlalchemy import event as on
from sqlalchemy import exc as sa
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from store.deadlines import Deadlines
from store.errors import (
    DatabaseConflict,
    DatabaseError,
    DatabaseFull,
    DatabaseRefusedData,
    DatabaseTimeout,
    DatabaseUnavailable,
)

_CONFLICTS = (pg.SerializationFailure, pg.DeadlockDetected)
_TIMEOUTS = (pg.QueryCanceled, pg.LockNotAvailable)
_GONE = (psycopg.OperationalError, pg.ReadOnlySqlTransaction, pg.IdleInTransactionSessionTimeout)
# SQLSTATE classes 22, 23 and 54 (a value too long for an index): about the rows, not about the database.
_DATA = (psycopg.DataError, psycopg.IntegrityError, pg.ProgramLimitExceeded)
_NOT_GONE = (*_CONFLICTS, *_TIMEOUTS, *_DATA)
"""Those that the driver derives from OperationalError too."""
_OURS: tuple[tuple[tuple[type[Exception], ...], type[DatabaseError]], ...] = (
    (_CONFLICTS, DatabaseConflict),
    (_TIMEOUTS, DatabaseTimeout),
    (_DATA, DatabaseRefusedData),
    ((psycopg.Error, sa.SQLAlchemyError), DatabaseError),
)


def driver_url(url: str) -> str:
    """The same URL with SQLAlchemy's name of the driver."""
    return "postgresql+psycopg://" + url.split("://", 1)[1]


def create_engine(
    url: str, deadlines: Deadlines, *, pool_size: int = 10, statement: float | None = None
) -> AsyncEngine:
    """A pool of at most `pool_size` connections whose statements end after `statement` seconds (default: a read's)."""
    milliseconds = {
        "statement_timeout": statement or deadlines.read_statement,
        "lock_timeout": deadlines.lock,
        "idle_in_transaction_session_timeout": deadlines.idle_in_transaction,
    }
    options = " ".join(f"-c {name}={int(value * 1000)}" for name, value in milliseconds.items())
    engine = create_async_engine(
        driver_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=deadlines.pool_checkout,
        pool_pre_ping=False,
        pool_use_lifo=True,
        connect_args={
            "connect_timeout": max(1, round(deadlines.connect)),
            "application_name": "tollwatch",
            # A server that vanished without a word is noticed within half a minute, also by who only waits for it.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 25_000,
            # Optional filters fold away only in a plan made for the very values; see sql/queries/reads.sql.
            # A login named like our schema must not make it the default one: every name in sql/ is qualified.
            # A question keeps one process of the server at work: to start two more takes longer than most answers, and
            # the pool would not bound them.
            "options": f"{options} -c plan_cache_mode=force_custom_plan -c max_parallel_workers_per_gather=0"
            " -c timezone=UTC -c search_path=public",
        },
    )
    on.listen(engine.sync_engine, "handle_error", _part_with_stale_plans)
    return engine


def _part_with_stale_plans(context: ExceptionContext) -> None:
    """A statement that the session prepared before a migration changed its columns fails for good: use another session.

    PostgreSQL's RevalidateCachedQuery: 0A000, "cached plan must not change result type".
    """
    stale = isinstance(context.original_exception, pg.FeatureNotSupported)
    if stale and "cached plan" in str(context.original_exception):
        context.is_disconnect = True
        context.invalidate_pool_on_disconnect = True


def _ours(exc: BaseException) -> DatabaseError | None:
    cause = exc.orig if isinstance(exc, sa.DBAPIError) else exc
    message = " ".join(str(cause).split())
    if isinstance(exc, sa.TimeoutError):
        return DatabaseTimeout("every database connection is in use; raise TOLLWATCH_POOL_SIZE or ask less at once")
    if isinstance(cause, pg.DiskFull):
        return DatabaseFull(f"the disk of the database server is full ({message}); free space on it, then try again")
    if isinstance(cause, pg.UndefinedFile):
        return DatabaseError(
            f"the server cannot load a library that this database needs ({message}); install the version of TimescaleDB"
            " that the database was made with, or restore the server's package"
        )
    gone = isinstance(cause, _GONE) or (isinstance(exc, sa.DBAPIError) and exc.connection_invalidated)
    if gone and not isinstance(cause, _NOT_GONE):
        return DatabaseUnavailable(f"the database does not answer ({message}); check that it runs and can be reached")
    return next((ours(message) for theirs, ours in _OURS if isinstance(cause, theirs)), None)


@contextmanager
def wrap_errors() -> Iterator[None]:
    """Turn what SQLAlchemy and psycopg raise into the tree of `store.errors`."""
    try:
        yield
    except (sa.SQLAlchemyError, psycopg.Error, OSError) as exc:
        ours = DatabaseUnavailable(str(exc)) if isinstance(exc, OSError) else _ours(exc)
        if ours is None:
            raise
        raise ours from exc


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection for reads, in one transaction that is rolled back. Raises DatabaseError."""
    with wrap_errors():
        async with engine.connect() as connection:
            yield connection


@asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection in a transaction that commits at the end of the block. Raises DatabaseError."""
    with wrap_errors():
        async with engine.begin() as connection:
            yield connection


@asynccontextmanager
async def autocommitting(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection outside transactions, for statements that bring their own. Raises DatabaseError."""
    with wrap_errors():
        async with engine.connect() as connection:
            yield await connection.execution_options(isolation_level="AUTOCOMMIT")
