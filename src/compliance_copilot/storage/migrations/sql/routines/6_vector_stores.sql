-- Keeping a hosted store's copy of the vectors the same as the rows here. Rows are marked by
-- triggers, so that whoever changes or erases a chunk need not know that there is a copy.

CREATE FUNCTION mark_changed_vectors()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO vector_outbox (tenant_id, chunk_id)
    SELECT c.tenant_id, c.chunk_id FROM changed c
    JOIN corpora k ON k.tenant_id = c.tenant_id AND k.namespace IS NOT NULL
    ORDER BY c.tenant_id, c.chunk_id
    ON CONFLICT (tenant_id, chunk_id) DO UPDATE SET due_at = now();
    RETURN NULL;
END
$$;
CREATE TRIGGER mark_inserted AFTER INSERT ON chunk_vectors
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION mark_changed_vectors();
CREATE TRIGGER mark_updated AFTER UPDATE ON chunk_vectors
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION mark_changed_vectors();
CREATE TRIGGER mark_deleted AFTER DELETE ON chunk_vectors
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION mark_changed_vectors();

-- What filters see (metadata, instants) lies beside the vectors there.
CREATE FUNCTION mark_changed_versions()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO vector_outbox (tenant_id, chunk_id)
    SELECT c.tenant_id, c.id FROM changed d
    JOIN corpora k ON k.tenant_id = d.tenant_id AND k.namespace IS NOT NULL
    JOIN chunks c ON c.tenant_id = d.tenant_id AND c.document_id = d.document_id
                 AND c.version = d.version
    ORDER BY c.tenant_id, c.id
    ON CONFLICT (tenant_id, chunk_id) DO UPDATE SET due_at = now();
    RETURN NULL;
END
$$;
CREATE TRIGGER mark_changed AFTER UPDATE ON document_versions
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION mark_changed_versions();

CREATE FUNCTION retire_namespace()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.namespace IS NOT NULL
       AND (TG_OP = 'DELETE' OR NEW.namespace IS DISTINCT FROM OLD.namespace) THEN
        INSERT INTO retired_namespaces (namespace, vector_store)
        VALUES (OLD.namespace, OLD.vector_store) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER retire_namespace AFTER UPDATE OF namespace OR DELETE ON corpora
    FOR EACH ROW EXECUTE FUNCTION retire_namespace();

-- An empty corpus takes whatever store is configured; one that has vectors keeps its own. Then the
-- chunks about to be written there are marked, due when the lease is over: a process that dies in
-- between leaves marks, and the sweep takes away what no row here stands for.
CREATE FUNCTION announce_vectors(p_tenant text, p_ids uuid[], p_store text, p_embedder text,
                                 p_namespace text, p_lease_seconds real)
RETURNS TABLE (vector_store text, embedder text, namespace text,
               pinned_length double precision, at timestamptz, due_at timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    v_at timestamptz := clock_timestamp();
    v_due timestamptz := v_at + make_interval(secs => p_lease_seconds);
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    PERFORM adopt_place(p_tenant, p_store, p_embedder, p_namespace);
    INSERT INTO vector_outbox AS o (tenant_id, chunk_id, due_at)
    SELECT p_tenant, u.id, v_due FROM unnest(p_ids) u (id)
    JOIN corpora k ON k.tenant_id = p_tenant AND k.vector_store = p_store
    ORDER BY u.id ON CONFLICT (tenant_id, chunk_id) DO UPDATE SET due_at = v_due;
    RETURN QUERY SELECT k.vector_store, k.embedder, k.namespace, k.pinned_length, v_at, v_due
    FROM corpora k WHERE k.tenant_id = p_tenant;
END
$$;

CREATE FUNCTION adopt_place(p_tenant text, p_store text, p_embedder text, p_namespace text)
RETURNS void LANGUAGE sql AS $$
    UPDATE corpora k SET vector_store = p_store, namespace = p_namespace, embedder = NULL
    WHERE k.tenant_id = p_tenant AND (k.vector_store <> p_store OR k.embedder <> p_embedder)
      AND NOT EXISTS (SELECT FROM chunk_vectors v WHERE v.tenant_id = p_tenant)
$$;

-- Takes up to p_limit marks that are due, for a minute, and shows what the copy should be; a
-- chunk without a row here (dense NULL) should not be there.
CREATE FUNCTION claim_vectors(p_tenant text, p_limit integer)
RETURNS TABLE (chunk_id uuid, due_at timestamptz, namespace text, dense halfvec, sparse sparsevec,
               effective_from timestamptz, effective_until timestamptz, document_id text,
               version_from timestamptz, created_at timestamptz, metadata jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();  -- a variable: see end_leases
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    RETURN QUERY
    WITH due AS (
        SELECT o.chunk_id FROM vector_outbox o
        WHERE o.tenant_id = p_tenant AND o.due_at <= v_now
        ORDER BY o.chunk_id LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE vector_outbox o SET due_at = v_now + interval '1 minute'
        FROM due d WHERE o.tenant_id = p_tenant AND o.chunk_id = d.chunk_id
        RETURNING o.chunk_id, o.due_at
    )
    SELECT c.chunk_id, c.due_at, k.namespace, r.dense, r.sparse, r.effective_from,
           r.effective_until, r.document_id, r.version_from, r.created_at, r.metadata
    FROM claimed c
    LEFT JOIN corpora k ON k.tenant_id = p_tenant
    LEFT JOIN vector_records r ON r.tenant_id = p_tenant AND r.chunk_id = c.chunk_id;
END
$$;

CREATE VIEW vector_records WITH (security_invoker = true) AS
    SELECT v.tenant_id, v.chunk_id, v.dense, v.sparse, v.effective_from, v.effective_until,
           d.document_id, d.effective_from AS version_from, d.created_at, d.metadata
    FROM chunk_vectors v
    JOIN chunks c ON c.tenant_id = v.tenant_id AND c.id = v.chunk_id
    JOIN document_versions d ON d.tenant_id = c.tenant_id AND d.document_id = c.document_id
                            AND d.version = c.version;

-- Ends a claim. A mark that is no longer the claim's was moved by a change meanwhile, and perhaps
-- taken away by who wrote that change before us: then the copy is looked at once more.
CREATE FUNCTION finish_vectors(p_tenant text, p_ids uuid[], p_due timestamptz[])
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_again integer;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    WITH claims AS (
        SELECT u.id, u.due FROM unnest(p_ids, p_due) u (id, due)
    ), ended AS (
        DELETE FROM vector_outbox o USING claims c
        WHERE o.tenant_id = p_tenant AND o.chunk_id = c.id AND o.due_at = c.due
        RETURNING o.chunk_id
    ), again AS (
        INSERT INTO vector_outbox (tenant_id, chunk_id)
        SELECT p_tenant, c.id FROM claims c
        WHERE NOT EXISTS (SELECT FROM ended e WHERE e.chunk_id = c.id)
        ON CONFLICT (tenant_id, chunk_id) DO UPDATE SET due_at = now()
        RETURNING 1
    )
    SELECT count(*)::integer INTO v_again FROM again;
    RETURN v_again;
END
$$;

-- Tenants with marks that are due, entered one by one.
CREATE FUNCTION tenants_with_due_vectors()
RETURNS TABLE (tenant_id text) LANGUAGE plpgsql AS $$
DECLARE
    v_tenant text;
    v_now timestamptz := clock_timestamp();
BEGIN
    FOR v_tenant IN SELECT d.id FROM tenant_directory d ORDER BY d.id LOOP
        PERFORM set_config('app.tenant_id', v_tenant, true);
        IF EXISTS (SELECT FROM vector_outbox o
                   WHERE o.tenant_id = v_tenant AND o.due_at <= v_now) THEN
            tenant_id := v_tenant;
            RETURN NEXT;
        END IF;
    END LOOP;
    PERFORM set_config('app.tenant_id', '', true);
END
$$;

-- Corpora that have vectors, by who made them and where they are searched; for the start.
CREATE FUNCTION corpora_by_place()
RETURNS TABLE (embedder text, vector_store text, corpora bigint) LANGUAGE plpgsql AS $$
DECLARE
    v_tenant text;
    v_corpus corpora;
    v_found jsonb := '{}';
    v_key text;
BEGIN
    FOR v_tenant IN SELECT d.id FROM tenant_directory d LOOP
        PERFORM set_config('app.tenant_id', v_tenant, true);
        SELECT * INTO v_corpus FROM corpora k WHERE k.tenant_id = v_tenant
            AND EXISTS (SELECT FROM chunk_vectors v WHERE v.tenant_id = v_tenant);
        CONTINUE WHEN v_corpus.tenant_id IS NULL;
        v_key := jsonb_build_array(v_corpus.embedder, v_corpus.vector_store)::text;
        v_found := v_found || jsonb_build_object(v_key, coalesce((v_found ->> v_key)::bigint, 0) + 1);
    END LOOP;
    PERFORM set_config('app.tenant_id', '', true);
    RETURN QUERY SELECT f.key::jsonb ->> 0, f.key::jsonb ->> 1, f.value::text::bigint
    FROM jsonb_each(v_found) f;
END
$$;

-- What a search in a hosted store needs from here: one round trip before the two there.
CREATE FUNCTION hosted_search(p_tenant text, p_terms integer[])
RETURNS TABLE (vector_store text, embedder text, namespace text, chunks integer, at timestamptz,
               known_terms integer[], frequencies integer[])
LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    RETURN QUERY
    SELECT k.vector_store, k.embedder, k.namespace, k.chunks, clock_timestamp(), t.ids, t.dfs
    FROM corpora k, LATERAL (
        SELECT array_agg(f.term_id) AS ids, array_agg(f.document_frequency) AS dfs
        FROM term_frequencies(p_tenant, p_terms, NULL) f) t
    WHERE k.tenant_id = p_tenant;
END
$$;
