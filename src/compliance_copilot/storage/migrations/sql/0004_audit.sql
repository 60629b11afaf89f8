-- The audit log. Append-only: the serving role may neither UPDATE nor DELETE here (see _grant).

CREATE TABLE audit_entries (
    tenant_id     text NOT NULL,
    seq           bigint NOT NULL CHECK (seq > 0),
    at            timestamptz NOT NULL,
    actor         text NOT NULL,
    actor_name    text NOT NULL,
    request_id    text NOT NULL,
    action        text NOT NULL,
    subject       text NOT NULL,
    details       text NOT NULL,
    previous_hash bytea NOT NULL,
    hash          bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (tenant_id, seq)
);
COMMENT ON TABLE audit_entries IS
    'One gapless chain per tenant and one of the system (@system): each row hashes its '
    'predecessor and itself. No foreign key: it outlives the tenant and whoever acted.';
COMMENT ON COLUMN audit_entries.details IS 'JSON as text: the very characters are hashed.';
