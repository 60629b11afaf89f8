-- Replies are kept in one table: for whoever asks for an answer again by its request, and for
-- repeats of an Idempotency-Key. What readers thought of an answer stands beside it.

CREATE TABLE replies (
    tenant_id    text NOT NULL REFERENCES tenants,
    request_id   uuid NOT NULL,
    operation    text NOT NULL,
    reply        json NOT NULL,
    content_hash text,
    documents    text[] NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, request_id)
);
CREATE INDEX replies_by_end ON replies (tenant_id, expires_at);
COMMENT ON COLUMN replies.reply IS
    'json and not jsonb: whoever asks again gets the same bytes. A row that is gone while the '
    'ledger has its request was taken by retention or erasure (then 410).';
COMMENT ON COLUMN replies.documents IS 'The documents it shows: erasing one takes the reply too.';

CREATE TABLE feedback (
    tenant_id  text NOT NULL REFERENCES tenants,
    request_id uuid NOT NULL,
    key_id     text NOT NULL,
    verdict    text NOT NULL CHECK (verdict IN ('helpful', 'wrong')),
    comment    text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, request_id, key_id)
);
CREATE INDEX feedback_by_time ON feedback (tenant_id, created_at);
COMMENT ON COLUMN feedback.comment IS 'Goes with the answer; the verdict stays and is counted.';

-- Row-level security binds the owner too: tenants are entered one by one.
DO $$
DECLARE
    v_tenant text;
BEGIN
    FOR v_tenant IN SELECT d.id FROM tenant_directory d LOOP
        PERFORM set_config('app.tenant_id', v_tenant, true);
        INSERT INTO replies (tenant_id, request_id, operation, reply, created_at, expires_at)
        SELECT k.tenant_id, k.request_id, k.operation, k.reply, k.created_at,
               k.created_at + interval '90 days'
        FROM idempotency_keys k WHERE k.tenant_id = v_tenant AND k.reply IS NOT NULL;
    END LOOP;
    PERFORM set_config('app.tenant_id', '', true);
END
$$;
ALTER TABLE idempotency_keys DROP COLUMN reply;
