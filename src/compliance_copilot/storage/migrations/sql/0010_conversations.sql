-- The questions of a conversation, so that the next one may lean on them; no answer is in here.

CREATE TABLE conversation_turns (
    tenant_id       text NOT NULL REFERENCES tenants,
    conversation_id text NOT NULL,
    request_id      uuid NOT NULL,
    question        text NOT NULL,
    standalone      text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, conversation_id, request_id)
);
CREATE INDEX conversation_turns_by_end ON conversation_turns (tenant_id, expires_at);
