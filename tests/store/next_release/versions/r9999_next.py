"""What later revisions will do to relations in use: a column of facts, one of plain tables, a check, an index, a view.

Revision ID: 9999
Revises: the head of the present code
"""

from __future__ import annotations

from alembic import op

from migrations.versions import r0003_reads as newest

revision = "9999"
down_revision = newest.revision
branch_labels = None
depends_on = None

AS_IS = {"no_parameters": True}
UP = """
ALTER TABLE tollwatch.payments ADD COLUMN channel text COLLATE "C";
ALTER TABLE tollwatch.api_requests ADD COLUMN channel text COLLATE "C";
ALTER TABLE tollwatch.payment_heads ADD COLUMN channel text COLLATE "C" DEFAULT 'x402' NOT NULL;
ALTER TABLE tollwatch.payment_heads ADD CONSTRAINT payment_heads_told_check CHECK (told >= 0) NOT VALID;
ALTER TABLE tollwatch.payment_heads VALIDATE CONSTRAINT payment_heads_told_check;
CREATE TABLE tollwatch.channels (name text COLLATE "C" PRIMARY KEY);
CREATE INDEX wallets_address_text_idx ON tollwatch.wallets (project_id, address_text);
CREATE VIEW tollwatch_read.channels WITH (security_barrier) AS SELECT name FROM tollwatch.channels WHERE false;
ALTER TABLE tollwatch.agents ADD COLUMN owner text;
"""
DOWN = """
ALTER TABLE tollwatch.agents DROP COLUMN owner;
DROP VIEW tollwatch_read.channels;
DROP INDEX tollwatch.wallets_address_text_idx;
DROP TABLE tollwatch.channels;
ALTER TABLE tollwatch.payment_heads DROP CONSTRAINT payment_heads_told_check;
ALTER TABLE tollwatch.payment_heads DROP COLUMN channel;
ALTER TABLE tollwatch.api_requests DROP COLUMN channel;
ALTER TABLE tollwatch.payments DROP COLUMN channel;
"""


def upgrade() -> None:
    """Forward, in the order in which a careless author writes it."""
    op.get_bind().exec_driver_sql(UP, execution_options=AS_IS)


def downgrade() -> None:
    """And back."""
    op.get_bind().exec_driver_sql(DOWN, execution_options=AS_IS)
