-- Document frequencies are moved by the thousand with every ingest. Each new row asked whether its
-- tenant exists, though the transaction holds that tenant's corpus row: half of an ingest's time.

ALTER TABLE term_statistics DROP CONSTRAINT term_statistics_tenant_id_fkey;
ALTER TABLE term_statistics SET (fillfactor = 80);
COMMENT ON TABLE term_statistics IS
    'Written by count_terms alone, inside the lock on the corpus of the tenant, which has the key.';
