-- Where each corpus's vectors are searched, and what a hosted store has still to be told.

ALTER TABLE corpora ADD COLUMN vector_store text NOT NULL DEFAULT 'pgvector',
                    ADD COLUMN namespace text;
COMMENT ON COLUMN corpora.vector_store IS
    'Who finds candidates for this corpus; the vectors here stay the truth.';
COMMENT ON COLUMN corpora.namespace IS
    'Name of the corpus in a hosted store: random, so that it names no tenant. NULL: none there.';

CREATE TABLE vector_outbox (
    tenant_id   text NOT NULL,
    chunk_id    uuid NOT NULL,
    due_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, chunk_id)
);
COMMENT ON TABLE vector_outbox IS
    'Chunks whose vector in the hosted store may differ from chunk_vectors (or may be there '
    'without one). Filled by triggers and before every upsert; emptied when both are the same.';

CREATE TABLE retired_namespaces (
    namespace    text PRIMARY KEY,
    vector_store text NOT NULL,
    due_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE retired_namespaces IS
    'Namespaces of a hosted store that belong to no corpus (any more) and are to be dropped there. '
    'Random names, of no tenant.';

CREATE TABLE staged_vectors (
    tenant_id   text NOT NULL,
    chunk_id    uuid NOT NULL,
    embedder    text NOT NULL,
    dense       halfvec NOT NULL,
    PRIMARY KEY (tenant_id, embedder, chunk_id),
    FOREIGN KEY (tenant_id, chunk_id) REFERENCES chunks ON DELETE CASCADE
);
COMMENT ON TABLE staged_vectors IS
    'Vectors of another embedder, made by a reindex under way and not yet in use.';
