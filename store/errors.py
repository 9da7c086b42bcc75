"""The error tree. A class's docstring is its default message: what is wrong, then what to do.

TollwatchError
├── SettingsError                    the environment does not make sense
│   └── HorizonError                 time limits that contradict each other
├── StartRefused                     this process may not start here; nothing was changed
│   ├── WrongEdition                 the database offers something else than its schema records
│   ├── SchemaMismatch               the schema is not the one that this code knows
│   └── SandboxRefused               a production start on a sandbox's data
├── EmbeddedDatabaseError            the embedded PostgreSQL could not be made, started or stopped
├── DatabaseError                    PostgreSQL answered with an error that we did not expect
│   ├── DatabaseUnavailable          no connection, or it was lost: trying again may help
│   │   └── DatabaseFull             the server's disk is full: trying again helps once there is room
│   ├── DatabaseTimeout              a statement or lock deadline passed: trying again may help
│   │   └── DatabaseBusy             more waits for the database than may wait: trying again later helps
│   ├── DatabaseConflict             serialization failure or deadlock: trying again helps
│   └── DatabaseRefusedData          the rows themselves are refused: trying them again is in vain
├── SpoolRefused                     a batch could not be kept on the spool: trying again later helps
├── RebuildRefused                   a rebuild would lose what cannot be made again; nothing was changed
├── StatisticsMissing                the server does not tell what was asked: an extension or a right is missing
├── NotExplained                     a statement that has no plan, or none here
├── NotFound                         no such agent, key, project
├── InvalidValue                     a value that a caller sent cannot be stored
└── RpcError                         a Solana node did not answer as it should (see collector.rpc)
"""

from __future__ import annotations


class TollwatchError(Exception):
    """Something went wrong inside Tollwatch; the log has the details."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))


class SettingsError(TollwatchError):
    """A setting is missing or malformed; see `tollwatch settings`."""


class HorizonError(SettingsError):
    """Time limits contradict each other; see docs/architecture.md, Horizons."""


class StartRefused(TollwatchError):
    """This process may not start on this database."""


class WrongEdition(StartRefused):
    """The database's edition is not the one that its schema was made for."""


class SchemaMismatch(StartRefused):
    """The database's schema is not the one that this code knows; run `tollwatch migrate`."""


class SandboxRefused(StartRefused):
    """The database holds sandbox data and this is a production start; use another database."""


class EmbeddedDatabaseError(TollwatchError):
    """The embedded PostgreSQL could not be started; set TOLLWATCH_DATABASE_URL to use another server."""


class DatabaseError(TollwatchError):
    """PostgreSQL answered with an unexpected error."""


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached; check TOLLWATCH_DATABASE_URL and that the server runs."""


class DatabaseFull(DatabaseUnavailable):
    """The disk of the database server is full; free space on it, then try again: nothing was stored."""


class DatabaseTimeout(DatabaseError):
    """The database did not answer within its deadline; try again, or narrow the question."""


class DatabaseBusy(DatabaseTimeout):
    """More events wait for the database than TOLLWATCH_INGEST_QUEUE allows; try again in a moment."""


class DatabaseConflict(DatabaseError):
    """Concurrent transactions collided; trying again helps."""


class DatabaseRefusedData(DatabaseError):
    """The database refuses these rows."""


class RebuildRefused(TollwatchError):
    """The totals hold what the rollups no longer do, so they cannot be made again from them; leave them as they are."""


class StatisticsMissing(TollwatchError):
    """The server keeps no statistics of statements; load pg_stat_statements."""


class NotExplained(TollwatchError):
    """The statement has no plan here."""


class SpoolRefused(TollwatchError):
    """The spool did not keep the batch; send it again later. `reason` is one of store.spool.folder.REASONS."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotFound(TollwatchError):
    """No such thing."""


class InvalidValue(TollwatchError):
    """A value cannot be stored."""


class RpcError(TollwatchError):
    """A Solana RPC endpoint did not answer as it should."""
