-- What was erased, how far that is, and its signed end.

CREATE TABLE erasures (
    tenant_id    text NOT NULL REFERENCES tenants,
    id           uuid NOT NULL,
    what         text NOT NULL CHECK (what IN ('document', 'tenant')),
    subject      text NOT NULL,
    traces       text[] NOT NULL DEFAULT '{}',
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state        text NOT NULL DEFAULT 'erasing' CHECK (state IN ('erasing', 'finished')),
    counts       jsonb NOT NULL DEFAULT '{}',
    probe        jsonb NOT NULL DEFAULT '{}',
    finished_at  timestamptz,
    key_id       text,
    signature    text,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX erasures_unfinished ON erasures (tenant_id) WHERE state <> 'finished';
COMMENT ON COLUMN erasures.traces IS 'Ids of chunks, looked for by the probe; empty at the end.';
