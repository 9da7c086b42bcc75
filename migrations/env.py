"""Alembic's environment. `store.migrate` hands in its connection; by hand it uses TOLLWATCH_DATABASE_URL."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection, create_engine

from store.settings import Settings
from store.tables import SCHEMA, metadata

VERSION_TABLE = "alembic_version"


def include_name(name: str | None, kind: str, _parents: object) -> bool:
    """Autogenerate looks at our schema only: not at chunks, catalogues, partitions or materialised rollups."""
    if kind == "schema":
        return name == SCHEMA
    return True


def run(connection: Connection) -> None:
    """Run the revisions that the caller asked for, all in one transaction."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_schemas=True,
        include_name=include_name,
        version_table=VERSION_TABLE,
        version_table_schema=SCHEMA,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def main() -> None:
    """Use the connection that was handed in, or open one from the environment."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        run(connection)
        return
    url = Settings.from_env(os.environ).database_url
    if url is None:
        raise SystemExit("set TOLLWATCH_DATABASE_URL (see `tollwatch db url`)")
    engine = create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1), connect_args={"options": "-c search_path=public"}
    )
    with engine.connect() as opened:
        run(opened)
    engine.dispose()


main()
