-- Tables. Every table with a tenant_id is protected by walls.sql.
-- Keys are (tenant_id, id); ids are UUIDv7 made by the service, or the caller's own names.

CREATE TABLE tenant_directory (
    id      text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9_-]{1,62}$'),
    status  text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'deleted'))
);
COMMENT ON TABLE tenant_directory IS
    'Ids and nothing else: work over all tenants starts here and enters tenants one by one. '
    'The one table about tenants without row-level security; ids stay for ever, never reused.';

CREATE TABLE system_state (
    singleton   boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    config      jsonb NOT NULL DEFAULT '{}',
    version     bigint NOT NULL DEFAULT 1,
    embedder    text,
    bootstrapped_at timestamptz
);
INSERT INTO system_state DEFAULT VALUES;
COMMENT ON COLUMN system_state.config IS 'field -> {value, set_by, set_at}';

CREATE TABLE platform_keys (
    key_hash    bytea PRIMARY KEY CHECK (octet_length(key_hash) = 32),
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE prices (
    price_version   text NOT NULL,
    model           text NOT NULL,
    effective_from  date NOT NULL,
    entry           jsonb NOT NULL,
    PRIMARY KEY (price_version, model, effective_from)
);

CREATE TABLE tenants (
    tenant_id   text PRIMARY KEY REFERENCES tenant_directory (id),
    name        text NOT NULL,
    status      text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'deleted')),
    config      jsonb NOT NULL DEFAULT '{}',
    limits      jsonb NOT NULL DEFAULT '{}',
    version     bigint NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN tenants.config IS 'field -> {value, set_by, set_at}';

CREATE TABLE api_keys (
    tenant_id    text NOT NULL REFERENCES tenants,
    id           uuid NOT NULL,
    key_hash     bytea NOT NULL CHECK (octet_length(key_hash) = 32),
    name         text NOT NULL,
    scopes       text[] NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX api_keys_hash ON api_keys (key_hash);

-- What a tenant knows -------------------------------------------------------------------------

CREATE TABLE corpora (
    tenant_id       text PRIMARY KEY REFERENCES tenants,
    version         bigint NOT NULL DEFAULT 0,
    documents       integer NOT NULL DEFAULT 0,
    text_bytes      bigint NOT NULL DEFAULT 0,
    chunks          integer NOT NULL DEFAULT 0,
    total_length    bigint NOT NULL DEFAULT 0,
    pinned_length   double precision NOT NULL DEFAULT 1,
    embedder        text
);
COMMENT ON TABLE corpora IS
    'One row per tenant: the version that caches are keyed by, and the counters BM25 needs. '
    'Moved by the same transaction that changes the documents; can be rebuilt from them.';
COMMENT ON COLUMN corpora.pinned_length IS
    'Average chunk length used by all stored BM25 weights, on a grid of 5 % steps, so that it is '
    'a function of the corpus and not of the order in which it was ingested.';

CREATE TABLE documents (
    tenant_id       text NOT NULL REFERENCES tenants,
    document_id     text NOT NULL,
    title           text NOT NULL,
    metadata        jsonb NOT NULL DEFAULT '{}',
    current_version integer NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, document_id)
);

CREATE TABLE document_versions (
    tenant_id       text NOT NULL,
    document_id     text NOT NULL,
    version         integer NOT NULL,
    title           text NOT NULL,
    text            text NOT NULL,
    content_hash    bytea NOT NULL,
    language        text NOT NULL,
    metadata        jsonb NOT NULL DEFAULT '{}',
    chunks          integer NOT NULL,
    effective_from  timestamptz NOT NULL DEFAULT now(),
    effective_until timestamptz NOT NULL DEFAULT 'infinity',
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, document_id, version),
    FOREIGN KEY (tenant_id, document_id) REFERENCES documents ON DELETE CASCADE
);
CREATE INDEX document_versions_by_hash ON document_versions (tenant_id, content_hash);

CREATE TABLE chunks (
    tenant_id    text NOT NULL,
    id           uuid NOT NULL,
    document_id  text NOT NULL,
    version      integer NOT NULL,
    ordinal      integer NOT NULL,
    start_offset integer NOT NULL,
    end_offset   integer NOT NULL,
    headings     text[] NOT NULL DEFAULT '{}',
    page         integer,
    text         text NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, document_id, version, ordinal),
    FOREIGN KEY (tenant_id, document_id, version) REFERENCES document_versions ON DELETE CASCADE
);

-- Apart from the texts, so that a scan of a tenant's vectors reads nothing else.
CREATE TABLE chunk_vectors (
    tenant_id       text NOT NULL,
    chunk_id        uuid NOT NULL,
    dense           halfvec NOT NULL,
    sparse          sparsevec NOT NULL,
    length          integer NOT NULL,
    effective_from  timestamptz NOT NULL,
    effective_until timestamptz NOT NULL DEFAULT 'infinity',
    PRIMARY KEY (tenant_id, chunk_id),
    FOREIGN KEY (tenant_id, chunk_id) REFERENCES chunks ON DELETE CASCADE
);
ALTER TABLE chunk_vectors ALTER COLUMN dense SET STORAGE PLAIN;
ALTER TABLE chunk_vectors ALTER COLUMN sparse SET STORAGE MAIN;
CREATE INDEX chunk_vectors_in_force ON chunk_vectors (tenant_id, effective_until);

CREATE TABLE term_statistics (
    tenant_id           text NOT NULL REFERENCES tenants,
    term_id             integer NOT NULL,
    document_frequency  integer NOT NULL,
    PRIMARY KEY (tenant_id, term_id)
);

-- What it cost --------------------------------------------------------------------------------

CREATE TABLE usage_events (
    tenant_id            text NOT NULL REFERENCES tenants,
    request_id           uuid NOT NULL,
    attempt              integer NOT NULL,
    operation            text NOT NULL CHECK (operation IN ('query', 'search', 'ingest')),
    key_id               text,
    state                text NOT NULL DEFAULT 'reserved'
                         CHECK (state IN ('reserved', 'settled', 'released', 'interrupted')),
    final                boolean NOT NULL DEFAULT false,
    provider             text,
    model                text,
    provider_model       text,
    provider_response_id text,
    input_tokens         integer NOT NULL DEFAULT 0,
    output_tokens        integer NOT NULL DEFAULT 0,
    cached_input_tokens  integer NOT NULL DEFAULT 0,
    reserved_micro_usd   bigint NOT NULL DEFAULT 0,
    cost_micro_usd       bigint NOT NULL DEFAULT 0,
    price_version        text NOT NULL,
    unpriced             boolean NOT NULL DEFAULT false,
    estimated            boolean NOT NULL DEFAULT false,
    outcome              text,
    latency_ms           real,
    request_latency_ms   real,
    started_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_at           timestamptz,
    lease_expires_at     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, request_id, attempt)
);
CREATE INDEX usage_events_by_time ON usage_events (tenant_id, started_at);
CREATE INDEX usage_events_open ON usage_events (tenant_id, lease_expires_at)
    WHERE state = 'reserved';

CREATE TABLE admission_windows (
    tenant_id     text NOT NULL REFERENCES tenants,
    width_seconds smallint NOT NULL,
    starts_at     timestamptz NOT NULL,
    admitted      integer NOT NULL,
    PRIMARY KEY (tenant_id, width_seconds, starts_at)
) WITH (fillfactor = 50);
COMMENT ON TABLE admission_windows IS
    'Rolling windows as sums: minutes for the hourly limit on questions, seconds for the '
    'limit on requests a minute. Moved by admission; can be rebuilt from usage_events.';

CREATE TABLE spend_months (
    tenant_id          text NOT NULL REFERENCES tenants,
    month              date NOT NULL,
    held_micro_usd     bigint NOT NULL DEFAULT 0,
    settled_micro_usd  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, month)
) WITH (fillfactor = 50);
COMMENT ON TABLE spend_months IS
    'Money held by requests under way and money settled, by month of the request''s start. '
    'Moved by admission and settlement; can be rebuilt from usage_events.';

CREATE TABLE usage_hours (
    tenant_id           text NOT NULL REFERENCES tenants,
    hour                timestamptz NOT NULL,
    queries             bigint NOT NULL DEFAULT 0,
    answered_queries    bigint NOT NULL DEFAULT 0,
    answered_latency_us bigint NOT NULL DEFAULT 0,
    requests            bigint NOT NULL DEFAULT 0,
    successful_requests bigint NOT NULL DEFAULT 0,
    input_tokens        bigint NOT NULL DEFAULT 0,
    output_tokens       bigint NOT NULL DEFAULT 0,
    cost_micro_usd      bigint NOT NULL DEFAULT 0,
    unpriced            bigint NOT NULL DEFAULT 0,
    estimated           bigint NOT NULL DEFAULT 0,
    cache_hits          bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, hour)
) WITH (fillfactor = 50);
COMMENT ON TABLE usage_hours IS
    'Sums of the ledger rows that are no longer reserved, by hour of their start. Moved by the '
    'transaction that closes a row; can be rebuilt from usage_events.';

CREATE TABLE idempotency_keys (
    tenant_id   text NOT NULL REFERENCES tenants,
    operation   text NOT NULL,
    key         text NOT NULL,
    body_hash   bytea NOT NULL,
    request_id  uuid NOT NULL,
    finished    boolean NOT NULL DEFAULT false,
    reply       json,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, operation, key)
);
CREATE INDEX idempotency_keys_by_request ON idempotency_keys (tenant_id, request_id);
COMMENT ON COLUMN idempotency_keys.reply IS
    'The stored reply, json and not jsonb: a repeat gets the same bytes. NULL on a finished row once retention or erasure took it (then 410).';
