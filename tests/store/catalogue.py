"""A database's catalogue as text, for tests that compare two of them: whatever DDL can change, and nothing else.

No oids, sizes or statistics; partitions and chunks, which data makes, only where asked.
"""

from __future__ import annotations

import re

import psycopg

OURS = "('tollwatch', 'tollwatch_read', 'tollwatch_internal')"
_RELATIONS = f"""
    SELECT c.*, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN {OURS} AND (%(partitions)s OR NOT c.relispartition)"""
"""Every relation of ours, indexes and sequences included."""
ASPECTS = {
    "schemas": f"""
        SELECT nspname, nspowner::regrole, nspacl, obj_description(oid, 'pg_namespace')
        FROM pg_namespace WHERE nspname IN {OURS}""",
    "relations": f"""
        SELECT nspname, relname, relkind::text, relowner::regrole, relpersistence::text, relacl, reloptions,
          obj_description(oid, 'pg_class'), pg_get_partkeydef(oid), relrowsecurity, relreplident::text,
          (SELECT amname FROM pg_am WHERE pg_am.oid = relam)
        FROM ({_RELATIONS}) r""",
    "columns": f"""
        SELECT r.oid::regclass, a.attname, row_number() OVER (PARTITION BY r.oid ORDER BY a.attnum),
          format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text, a.attgenerated::text, a.attacl,
          a.attcollation::regcollation, a.attstattarget, a.attoptions, a.attcompression::text, a.attstorage::text,
          pg_get_expr(d.adbin, d.adrelid), col_description(r.oid, a.attnum)
        FROM ({_RELATIONS}) r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum""",
    "constraints": f"""
        SELECT r.oid::regclass, k.conname, k.contype::text, k.convalidated, pg_get_constraintdef(k.oid)
        FROM ({_RELATIONS}) r JOIN pg_constraint k ON k.conrelid = r.oid""",
    "indexes": f"""
        SELECT r.oid::regclass, pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisready
        FROM ({_RELATIONS}) r JOIN pg_index i ON i.indrelid = r.oid
        JOIN pg_class x ON x.oid = i.indexrelid AND (%(partitions)s OR NOT x.relispartition)""",
    "triggers": f"""
        SELECT r.oid::regclass, pg_get_triggerdef(t.oid), t.tgenabled::text
        FROM ({_RELATIONS}) r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal""",
    "views": f"SELECT oid::regclass, pg_get_viewdef(oid) FROM ({_RELATIONS}) r WHERE relkind IN ('v', 'm')",
    "functions": f"""
        SELECT p.oid::regprocedure, pg_get_functiondef(p.oid), p.proowner::regrole, p.proacl, obj_description(p.oid, 'pg_proc')
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN {OURS} AND p.prokind IN ('f', 'p')""",
    "types": f"""
        SELECT t.oid::regtype, t.typtype::text, t.typowner::regrole, t.typacl
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE n.nspname IN {OURS} AND t.typtype NOT IN ('c') AND t.typcategory <> 'A'""",
    "statistics": "SELECT stxrelid::regclass, stxname, stxkind::text, stxkeys::text FROM pg_statistic_ext",
    "default grants": "SELECT defaclnamespace::regnamespace, defaclobjtype::text, defaclacl FROM pg_default_acl",
    "sequences": f"""
        SELECT r.oid::regclass, s.seqtypid::regtype, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle
        FROM ({_RELATIONS}) r JOIN pg_sequence s ON s.seqrelid = r.oid""",
}
TIMESCALE = {
    "hypertables": """
        SELECT hypertable_schema, hypertable_name, column_name, time_interval FROM timescaledb_information.dimensions
        WHERE hypertable_schema = 'tollwatch'""",
    "columnstore": "SELECT hypertable, segmentby, orderby FROM timescaledb_information.hypertable_columnstore_settings",
    "aggregates": """
        SELECT view_schema, view_name, materialized_only, compression_enabled, view_definition
        FROM timescaledb_information.continuous_aggregates""",
    "materialised indexes": """
        SELECT a.view_name, x.indexdef FROM timescaledb_information.continuous_aggregates a
        JOIN pg_indexes x ON x.schemaname = a.materialization_hypertable_schema
          AND x.tablename = a.materialization_hypertable_name""",
    "jobs": """
        SELECT coalesce(a.view_name, j.hypertable_name), j.proc_name, j.schedule_interval, j.owner, j.scheduled,
          j.config - 'hypertable_id' - 'mat_hypertable_id'
        FROM timescaledb_information.jobs j
        LEFT JOIN timescaledb_information.continuous_aggregates a
          ON a.materialization_hypertable_name = j.hypertable_name
        WHERE j.job_id >= 1000""",
}
"""What TimescaleDB keeps of us in tables of its own."""
_NUMBERS = re.compile(r"(_materialized_hypertable|_hyper|pg_toast|cagg_watermark\()_?\d+(_\d+)?")


def snapshot(url: str, *, partitions: bool = False) -> dict[str, list[str]]:
    """Aspect → its sorted lines. Numbers that TimescaleDB puts into names count how often it was asked, and are left out."""
    # Every name comes out qualified.
    with psycopg.connect(url, autocommit=True, options="-c search_path=pg_catalog") as connection:
        timescale = connection.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").rowcount
        community = timescale and connection.execute("SHOW timescaledb.license").fetchone() == ("timescale",)
        aspects = dict(ASPECTS)
        if timescale:
            aspects["hypertables"] = TIMESCALE["hypertables"]
        if community:
            aspects |= TIMESCALE
        return {name: _lines(connection, query, partitions=partitions) for name, query in aspects.items()}


def _lines(connection: psycopg.Connection, query: str, *, partitions: bool) -> list[str]:
    values = {"partitions": partitions} if "%(" in query else None
    return sorted(_NUMBERS.sub(r"\1_N", " | ".join(map(str, row))) for row in connection.execute(query, values))


def differences(first: dict[str, list[str]], second: dict[str, list[str]]) -> list[str]:
    """What only one of the two has; nothing when they are the same."""
    return [
        f"{sign} {aspect}: {line}"
        for aspect in first.keys() | second.keys()
        for sign, these, those in (("-", first, second), ("+", second, first))
        for line in sorted(set(these.get(aspect, [])) - set(those.get(aspect, [])))
    ]
