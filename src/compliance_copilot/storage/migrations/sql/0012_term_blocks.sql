-- Document frequencies of many terms at once: a row for each took half of a large ingest's time in
-- the database. `term_statistics` keeps what small calls change; a frequency is the sum of both.

CREATE TABLE term_blocks (
    tenant_id   text NOT NULL,
    block       smallint NOT NULL,
    frequencies sparsevec NOT NULL,
    PRIMARY KEY (tenant_id, block)
) WITH (toast_tuple_target = 8160);
COMMENT ON TABLE term_blocks IS
    'Document frequencies as the values of a sparse vector, by ranges of terms. Written by '
    '`rag/frequencies.py` alone, inside the lock on the corpus of the tenant.';
COMMENT ON TABLE term_statistics IS
    'Document frequencies as they change little by little; added to those in term_blocks. Written by '
    'count_terms alone, inside the lock on the corpus of the tenant, which has the key.';
