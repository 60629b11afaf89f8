-- Versions that come into force later, where a document was read from, and what equal texts share.

ALTER TABLE corpora
    ADD COLUMN in_force_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN next_change_at timestamptz NOT NULL DEFAULT 'infinity';
COMMENT ON COLUMN corpora.in_force_at IS
    'The instant whose versions are counted and searched: they stay the same until next_change_at, '
    'so rows, statistics and version of a corpus always belong together.';
COMMENT ON COLUMN corpora.next_change_at IS
    'When the next stored version comes into force; from then on admission lets nobody in before '
    'the corpus has been moved there.';

ALTER TABLE documents
    ADD COLUMN source_path text,
    ADD COLUMN source_hash bytea CHECK (octet_length(source_hash) = 32);
COMMENT ON COLUMN documents.source_hash IS 'SHA-256 of the bytes it was last read from.';
CREATE INDEX documents_by_source ON documents (tenant_id, source_path);

ALTER TABLE document_versions ADD COLUMN text_hash bytea CHECK (octet_length(text_hash) = 32);
CREATE INDEX document_versions_by_text ON document_versions (tenant_id, text_hash);
CREATE INDEX document_versions_by_start ON document_versions (tenant_id, effective_from);
