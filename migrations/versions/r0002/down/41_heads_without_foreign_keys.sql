-- Checked once the constraint is there, under a lock that lets writers go on.
ALTER TABLE tollwatch.payment_heads ADD CONSTRAINT payment_heads_project_id_fkey
  FOREIGN KEY (project_id) REFERENCES tollwatch.projects (id) NOT VALID;
ALTER TABLE tollwatch.payment_settlements ADD CONSTRAINT payment_settlements_project_id_fkey
  FOREIGN KEY (project_id) REFERENCES tollwatch.projects (id) NOT VALID;
ALTER TABLE tollwatch.queue_heads ADD CONSTRAINT queue_heads_project_id_fkey
  FOREIGN KEY (project_id) REFERENCES tollwatch.projects (id) NOT VALID;
ALTER TABLE tollwatch.payment_heads VALIDATE CONSTRAINT payment_heads_project_id_fkey;
ALTER TABLE tollwatch.payment_settlements VALIDATE CONSTRAINT payment_settlements_project_id_fkey;
ALTER TABLE tollwatch.queue_heads VALIDATE CONSTRAINT queue_heads_project_id_fkey;
