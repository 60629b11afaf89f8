-- Row-level security, enabled and forced, on every table that has a tenant_id and is not walled
-- yet; runs after every step. An unset or empty tenant matches no row: no tenant has an empty id.

DO $$
DECLARE
    t regclass;
BEGIN
    FOR t IN
        SELECT c.oid::regclass
        FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
          AND NOT c.relrowsecurity
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', t);
        EXECUTE format(
            'CREATE POLICY tenant_only ON %s'
            ' USING (tenant_id = (SELECT current_setting(''app.tenant_id'', true)))'
            ' WITH CHECK (tenant_id = (SELECT current_setting(''app.tenant_id'', true)))', t);
    END LOOP;
END
$$;
