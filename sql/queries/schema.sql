-- What the database is: edition, schema, roles.

-- name: server_offer
-- What the server offers: postgres (server_version_num), timescaledb (version or NULL), license (timescale or apache);
-- at_hand: CREATE EXTENSION would work; only a superuser sees shared_preload_libraries, anyone a setting of the loader.
SELECT
  current_setting('server_version_num')::int AS postgres,
  (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescaledb,
  -- Not by current_setting: a line in postgresql.conf is known to it also where no library is loaded.
  (SELECT setting FROM pg_settings WHERE name = 'timescaledb.license') AS license,
  current_setting('timescaledb.disable_load', true) IS NOT NULL
    AND EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb') AS at_hand

-- name: schema_exists
-- Whether a first migration has finished here.
SELECT to_regclass('tollwatch.schema_info') IS NOT NULL

-- name: recorded_edition
-- The edition that the first migration recorded.
SELECT edition FROM tollwatch.schema_info

-- name: installation
-- Which database this is: the name of its folder on a spool.
SELECT installation FROM tollwatch.schema_info

-- name: ping
-- Whether the database answers.
SELECT 1

-- name: recorded_horizons
-- The horizons that the policies in force were made for.
SELECT horizons FROM tollwatch.schema_info

-- name: record_horizons
-- Remember the horizons that the policies were made for.
UPDATE tollwatch.schema_info SET horizons = CAST(:horizons AS jsonb), updated_at = now()

-- name: schema_revision
-- Alembic's revision; NULL where nothing is there.
SELECT version_num FROM tollwatch.alembic_version

-- name: revision_table_exists
-- Whether Alembic has been here.
SELECT to_regclass('tollwatch.alembic_version') IS NOT NULL

-- name: create_schema
-- The schema of base tables; it also holds Alembic's version table, so it comes before the first revision.
CREATE SCHEMA IF NOT EXISTS tollwatch

-- name: lock_migrations
-- One migration at a time; waits for the other, up to lock_timeout. Freed at the end of the session.
SELECT pg_advisory_lock(hashtext('tollwatch.migrations'))

-- name: unlock_migrations
-- Let the next process migrate.
SELECT pg_advisory_unlock(hashtext('tollwatch.migrations'))

-- name: set_local
-- One setting, until the end of the transaction.
SELECT set_config(:name, :value, true)

-- name: set_session
-- One setting, until the end of the session.
SELECT set_config(:name, :value, false)

-- name: project_exists
-- Whether a project of that name exists.
SELECT EXISTS (SELECT FROM tollwatch.projects WHERE name = :name)

-- name: other_project
-- A project that is not that one.
SELECT name FROM tollwatch.projects WHERE name <> :name ORDER BY name LIMIT 1

-- name: project_id
-- A project's id by name.
SELECT id FROM tollwatch.projects WHERE name = :name

-- name: ensure_project
-- Make a project unless it exists.
INSERT INTO tollwatch.projects (name) VALUES (:name) ON CONFLICT (name) DO NOTHING

-- name: record_role
-- Which project a login role may see.
INSERT INTO tollwatch.project_roles (role, project_id, purpose)
VALUES (:role, :project_id, :purpose)
ON CONFLICT (role) DO UPDATE SET project_id = excluded.project_id, purpose = excluded.purpose

-- name: role_exists
-- Whether the cluster has a role of that name.
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)

-- name: reader_reach
-- What a reader role can still reach and should not: routines of TimescaleDB that any role may call by default, all but
-- those that compute from their arguments, and the watermark, which a continuous aggregate asks as whoever reads it.
SELECT p.oid::regprocedure::text
FROM pg_proc p
JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'timescaledb'
WHERE p.prokind IN ('f', 'p') AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
  AND p.proname !~ ('^(time_bucket|time_bucket_gapfill|interpolate|locf|cagg_watermark|cagg_watermark_materialized'
    '|(to|time_to|interval_to|uuid|bloom1|make|align_to|range_value_to|generate)_?[a-z0-9_]*'
    '|[a-z0-9_]*(sfunc|combinefunc|serializefunc|finalfunc|_in|_out|_send|_recv))$')
  AND has_function_privilege(:role, p.oid, 'EXECUTE')
ORDER BY 1

-- name: readers
-- Reader logins that the server still has.
SELECT r.role FROM tollwatch.project_roles r JOIN pg_roles g ON g.rolname = r.role WHERE r.purpose = 'reader' ORDER BY 1

-- name: role_of_project
-- The login that a project has for a purpose.
SELECT role FROM tollwatch.project_roles WHERE project_id = :project_id AND purpose = :purpose ORDER BY created_at LIMIT 1

-- name: current_database
-- The database's name, for GRANT.
SELECT current_database()

-- name: reader_schemas
-- Schemas of TimescaleDB that only tell about everyone's data and that a role can look into. The others must stay open:
-- the planner enters them, as the reader, for chunks and continuous aggregates. Their tables are closed instead.
SELECT n.nspname
FROM pg_namespace n
WHERE n.nspname IN ('timescaledb_information', 'timescaledb_experimental', '_timescaledb_debug')
  AND has_schema_privilege(:role, n.oid, 'USAGE')
ORDER BY 1
