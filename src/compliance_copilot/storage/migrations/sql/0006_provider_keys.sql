-- A tenant's own keys with vendors, sealed under SECRETS_KEY (storage/sealing.py).

CREATE TABLE provider_keys (
    tenant_id text NOT NULL REFERENCES tenants,
    provider  text NOT NULL CHECK (provider IN ('openai', 'anthropic')),
    sealed    bytea NOT NULL,
    last4     text NOT NULL,
    set_by    text NOT NULL,
    set_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, provider)
);

-- The name by which erasing a document finds what was made from it.
ALTER TABLE replies RENAME COLUMN documents TO document_ids;
ALTER TABLE feedback ADD COLUMN document_ids text[] NOT NULL DEFAULT '{}';
