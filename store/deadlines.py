"""Named deadlines: every wait for something outside this process has one, and tests can shrink it.

All values are seconds. `Deadlines()` is production's set; `replace(Deadlines(), rpc=0.1)` is a test's.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """Seconds, by what is waited for."""

    connect: float = 5.0
    """Opening one database connection."""
    pool_checkout: float = 5.0
    """Waiting for a free connection of the pool."""
    read_statement: float = 5.0
    """One read of the API or the exporter (`statement_timeout`)."""
    metrics_reading: float = 30.0
    """One reading of facts for `/metrics`, in the background; a scrape waits for it no longer than for any read."""
    admission: float = 2.0
    """A request's turn, and its room in memory, where the process does as much as it may."""
    cached_look_up: float = 1.0
    """A key or a name, all its waits together, where the cache has an older answer."""
    direct_write: float = 5.0
    """An ingest batch until it is committed; then it goes to the spool."""
    spool_lock: float = 5.0
    """Another process that allocates in the same spool folder."""
    write_statement: float = 15.0
    """One statement of an ingest transaction."""
    job_statement: float = 120.0
    """One statement of a maintenance job: rollup refresh, retention."""
    job_run: float = 480.0
    """One run of a maintenance job, all its statements."""
    lock: float = 4.0
    """Any lock wait (`lock_timeout`)."""
    crossing_lock: float = 0.5
    """A step of a rollup's watermark waiting for writers: others queue behind it."""
    rollup_fill: float = 3600.0
    """The first refresh, over all time, of a rollup that a migration made."""
    migration_statement: float = 5.0
    """One statement of a migration, unless the revision says otherwise."""
    migration_lock: float = 1.5
    """One try of a migration to lock a relation: everyone who comes later queues behind it, so it gives up before they
    do (`lock`), and tries again. Longer than PostgreSQL's deadlock_timeout (1 s): only a wait that lasts that long
    makes autovacuum let go."""
    migration_patience: float = 120.0
    """All such tries together."""
    migration_queue: float = 60.0
    """Waiting for another process that migrates the same database."""
    idle_in_transaction: float = 30.0
    """A session that holds a transaction open and does nothing."""
    embedded_start: float = 60.0
    """The embedded PostgreSQL, crash recovery included."""
    embedded_stop: float = 30.0
    """A fast shutdown of the embedded PostgreSQL; then immediate."""
    rpc: float = 10.0
    """One JSON-RPC call to a Solana node."""
    source_run: float = 25.0
    """One run of one collector source, all its calls and its write included."""
    shutdown: float = 10.0
    """Work in hand when a process is asked to stop."""
    child_ready: float = 60.0
    """A child process of `tollwatch up` until it is ready."""
