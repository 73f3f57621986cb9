"""Row level security of PostgreSQL, as migrations write it (no effect on SQLite).

Every table that a person owns is protected twice: queries filter by owner, and PostgreSQL itself
shows a transaction only the rows of the owner it was opened for. `FORCE` makes this hold for the
owner of the tables too. Superusers are never held by policies, so where the login may create roles
a transaction steps down to `mongars_people`, or to `mongars_jobs` for work that crosses people.
Where it may not, the policy reads the transaction's own setting.
"""

from alembic import op
from sqlalchemy import text

PEOPLE, JOBS = "mongars_people", "mongars_jobs"


def _on_postgresql() -> bool:
    return op.get_context().dialect.name == "postgresql"


def create_roles() -> None:
    """Make the two roles if this login may; both get what they need in this schema."""
    if not _on_postgresql():
        return
    op.execute(
        text(
            f"""
            DO $$
            DECLARE
              may boolean;
              step_into text := CASE WHEN current_setting('server_version_num')::int >= 160000
                                THEN ' WITH SET TRUE' ELSE '' END;
            BEGIN
              SELECT rolcreaterole OR rolsuper INTO may FROM pg_roles WHERE rolname = current_user;
              IF NOT may THEN RETURN; END IF;
              PERFORM pg_advisory_xact_lock(7271001);
              IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{PEOPLE}') THEN
                CREATE ROLE {PEOPLE} NOLOGIN NOBYPASSRLS;
              END IF;
              IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{JOBS}') THEN
                CREATE ROLE {JOBS} NOLOGIN NOBYPASSRLS;
              END IF;
              BEGIN  -- since 16, who makes a role may not step into it without this
                EXECUTE format('GRANT {PEOPLE}, {JOBS} TO %I', current_user) || step_into;
              EXCEPTION WHEN insufficient_privilege THEN RETURN;  -- somebody else's roles
              END;
              EXECUTE format('GRANT USAGE ON SCHEMA %I TO {PEOPLE}, {JOBS}', current_schema());
              EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT, INSERT, UPDATE,'
                             ' DELETE ON TABLES TO {PEOPLE}, {JOBS}', current_schema());
              EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT USAGE, SELECT'
                             ' ON SEQUENCES TO {PEOPLE}, {JOBS}', current_schema());
            END $$
            """  # noqa: S608 - constants
        )
    )


def protect(table: str, column: str = "owner_id") -> None:
    """Only the owner named in `column`, or work that crosses people, sees rows of `table`."""
    if not _on_postgresql():
        return
    rule = (
        f"({column} = current_setting('mongars.owner', true)"
        f" OR (current_setting('mongars.system', true) = 'on' AND current_user <> '{PEOPLE}'))"
    )
    op.execute(text(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"))
    op.execute(text(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"))
    op.execute(text(f"CREATE POLICY {table}_owner ON {table} USING {rule} WITH CHECK {rule}"))


def system_only(table: str) -> None:
    """Rows that no person's transaction may see at all (signing keys, throttles)."""
    if not _on_postgresql():
        return
    rule = f"(current_setting('mongars.system', true) = 'on' AND current_user <> '{PEOPLE}')"
    op.execute(text(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"))
    op.execute(text(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"))
    op.execute(text(f"CREATE POLICY {table}_system ON {table} USING {rule} WITH CHECK {rule}"))
