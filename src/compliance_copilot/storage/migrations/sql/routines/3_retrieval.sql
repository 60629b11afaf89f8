-- Exact search inside one tenant, and the statistics behind BM25.

-- Which row of term_blocks has a term: ids end below 1,000,000,000, and there are 1,024 blocks.
CREATE FUNCTION block_of(p_term integer) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT (p_term / 976563)::smallint
$$;

-- A term alone: the inner product with it is the value that a sparse vector has there.
CREATE FUNCTION term_alone(p_term integer) RETURNS sparsevec LANGUAGE sql IMMUTABLE AS $$
    SELECT ('{' || p_term || ':1}/1000000000')::sparsevec
$$;

-- How many chunks have each term: now from the counters, at an earlier instant by looking.
CREATE FUNCTION term_frequencies(p_tenant text, p_terms integer[], p_as_of timestamptz)
RETURNS TABLE (term_id integer, document_frequency integer) LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF p_as_of IS NULL THEN
        RETURN QUERY
        SELECT f.t, sum(f.n)::integer
        FROM (SELECT s.term_id, s.document_frequency FROM term_statistics s
              WHERE s.tenant_id = p_tenant AND s.term_id = ANY (p_terms)
              UNION ALL
              SELECT u.t, (-(b.frequencies <#> term_alone(u.t)))::integer
              FROM unnest(p_terms) AS u (t)
              JOIN term_blocks b ON b.tenant_id = p_tenant AND b.block = block_of(u.t)) f (t, n)
        GROUP BY f.t HAVING sum(f.n) > 0;
        RETURN;
    END IF;
    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT t, term_alone(t) AS alone FROM unnest(p_terms) t
    )
    SELECT a.t, count(*)::integer
    FROM chunk_vectors v JOIN asked a ON (v.sparse <#> a.alone) < 0
    WHERE v.tenant_id = p_tenant AND v.effective_until > p_as_of AND v.effective_from <= p_as_of
    GROUP BY a.t;
END
$$;

-- Which versions a search sees: those in force at p_as_of, else those of the corpus as it was moved
-- last. Never the clock's, so rows, statistics and corpus version belong together.
CREATE FUNCTION instant_of(p_tenant text, p_as_of timestamptz)
RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT coalesce(p_as_of,
                    (SELECT c.in_force_at FROM corpora c WHERE c.tenant_id = p_tenant))
$$;

-- The question as a sparse vector: term count x idf over this tenant's own statistics, with
-- idf = ln(1 + (N - df + 0.5) / (df + 0.5)) (Robertson & Zaragoza 2009, non-negative form).
-- The document side (term frequency, length) is in the stored vectors.
CREATE FUNCTION query_vector(p_terms integer[], p_counts real[], p_known integer[],
                             p_frequencies integer[], p_chunks integer)
RETURNS sparsevec LANGUAGE sql STABLE AS $$
    SELECT ('{' || coalesce(string_agg(q.term_id || ':' || (q.weight)::real, ',' ORDER BY q.term_id),
                            '') || '}/1000000000')::sparsevec
    FROM (SELECT k.term_id, u.n * ln(1 + greatest((p_chunks - k.df + 0.5) / (k.df + 0.5), 0))
                 AS weight
          FROM unnest(p_terms, p_counts) AS u (term_id, n)
          JOIN unnest(p_known, p_frequencies) AS k (term_id, df) ON k.term_id = u.term_id) q
    WHERE q.weight > 0
$$;

-- A question by one embedder means nothing to a corpus by another: state CC001, for the service
-- that still runs while `reindex` moves the corpus.
CREATE FUNCTION require_embedder(p_tenant text, p_embedder text)
RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF EXISTS (SELECT FROM corpora c WHERE c.tenant_id = p_tenant AND c.embedder <> p_embedder) THEN
        RAISE EXCEPTION 'the corpus is by another embedder' USING ERRCODE = 'CC001';
    END IF;
END
$$;

-- Chunks by id as they are stored, with what scores are made of (`rag/scoring.py`): those in force
-- at p_as_of (NULL: now) for which the filter holds. The first row carries the question's
-- statistics.
CREATE FUNCTION stored_chunks(p_tenant text, p_ids uuid[], p_terms integer[],
                              p_as_of timestamptz, p_filter jsonb,
                              p_embedder text DEFAULT NULL)
RETURNS TABLE (id uuid, document_id text, version integer, ordinal integer, start_offset integer,
               end_offset integer, text text, title text, headings text[], page integer,
               metadata jsonb, dense halfvec, sparse sparsevec,
               length integer, chunk_count integer, pinned_length double precision,
               known_terms integer[], frequencies integer[])
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_at timestamptz;
    v_corpus corpora;
    v_terms integer[];
    v_frequencies integer[];
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    PERFORM require_embedder(p_tenant, p_embedder);
    v_at := instant_of(p_tenant, p_as_of);
    SELECT * INTO v_corpus FROM corpora c WHERE c.tenant_id = p_tenant;
    SELECT array_agg(f.term_id), array_agg(f.document_frequency) INTO v_terms, v_frequencies
    FROM term_frequencies(p_tenant, p_terms, p_as_of) f;
    IF p_as_of IS NOT NULL THEN
        v_corpus.chunks := chunks_in_force(p_tenant, p_as_of);
    END IF;
    RETURN QUERY
    SELECT c.id, c.document_id, c.version, c.ordinal, c.start_offset, c.end_offset, c.text,
           d.title, c.headings, c.page, d.metadata, v.dense,
           CASE WHEN v_terms IS NOT NULL THEN v.sparse END, v.length, v_corpus.chunks,
           v_corpus.pinned_length,
           CASE WHEN row_number() OVER () = 1 THEN v_terms END,
           CASE WHEN row_number() OVER () = 1 THEN v_frequencies END
    FROM unnest(p_ids) AS i (id)
    JOIN chunks c ON c.tenant_id = p_tenant AND c.id = i.id
    JOIN chunk_vectors v ON v.tenant_id = p_tenant AND v.chunk_id = c.id
                        AND v.effective_until > v_at AND v.effective_from <= v_at
    JOIN document_versions d ON d.tenant_id = p_tenant AND d.document_id = c.document_id
                            AND d.version = c.version
    WHERE p_filter IS NULL
       OR filter_holds(p_filter, d.document_id, d.effective_from, d.created_at, d.metadata);
END
$$;

CREATE FUNCTION chunks_in_force(p_tenant text, p_at timestamptz)
RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT count(*)::integer FROM chunk_vectors v
    WHERE v.tenant_id = p_tenant AND v.effective_until > p_at AND v.effective_from <= p_at
$$;

-- The chunks of the versions in force at p_as_of (NULL: now) whose own scores could place them
-- among the best p_limit of either list: the best, what lies within the margin below them, and at
-- most p_spare more.
CREATE FUNCTION search_chunks(p_tenant text, p_dense halfvec, p_terms integer[], p_counts real[],
                              p_limit integer, p_spare integer, p_margin double precision,
                              p_as_of timestamptz, p_filter jsonb,
                              p_embedder text DEFAULT NULL)
RETURNS TABLE (id uuid, document_id text, version integer, ordinal integer, start_offset integer,
               end_offset integer, text text, title text, headings text[], page integer,
               metadata jsonb, dense halfvec, sparse sparsevec,
               length integer, chunk_count integer, pinned_length double precision,
               known_terms integer[], frequencies integer[])
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_sparse sparsevec;
    v_at timestamptz;
    v_chunks integer;
    v_ids uuid[];
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    PERFORM require_embedder(p_tenant, p_embedder);
    v_at := instant_of(p_tenant, p_as_of);
    IF cardinality(p_terms) = 0 AND p_filter IS NULL AND p_as_of IS NULL AND has_hnsw(p_tenant) THEN
        v_ids := nearest_by_hnsw(p_tenant, p_dense, p_limit, v_at);
        RETURN QUERY SELECT * FROM stored_chunks(p_tenant, v_ids, p_terms, p_as_of, NULL);
        RETURN;
    END IF;
    IF cardinality(p_terms) > 0 THEN
        v_chunks := CASE WHEN p_as_of IS NULL
            THEN (SELECT c.chunks FROM corpora c WHERE c.tenant_id = p_tenant)
            ELSE chunks_in_force(p_tenant, p_as_of) END;
        SELECT query_vector(p_terms, p_counts, array_agg(f.term_id),
                            array_agg(f.document_frequency), v_chunks)
        INTO v_sparse FROM term_frequencies(p_tenant, p_terms, p_as_of) f;
    END IF;
    WITH kept AS MATERIALIZED (
        SELECT d.document_id, d.version FROM document_versions d
        WHERE p_filter IS NOT NULL AND d.tenant_id = p_tenant
          AND filter_holds(p_filter, d.document_id, d.effective_from, d.created_at, d.metadata)
    ), looked_at AS (
        SELECT v.chunk_id, v.dense, v.sparse FROM chunk_vectors v
        WHERE p_filter IS NULL AND v.tenant_id = p_tenant
          AND v.effective_until > v_at AND v.effective_from <= v_at
        UNION ALL
        SELECT v.chunk_id, v.dense, v.sparse
        FROM kept k
        JOIN chunks c ON c.tenant_id = p_tenant AND c.document_id = k.document_id
                     AND c.version = k.version
        JOIN chunk_vectors v ON v.tenant_id = p_tenant AND v.chunk_id = c.id
        WHERE p_filter IS NOT NULL AND v.effective_until > v_at AND v.effective_from <= v_at
    ), scored AS MATERIALIZED (
        SELECT l.chunk_id, -(l.dense <#> p_dense) AS dense,
               CASE WHEN v_sparse IS NOT NULL THEN -(l.sparse <#> v_sparse) END AS sparse
        FROM looked_at l
    ), by_dense AS (
        SELECT s.chunk_id FROM scored s
        WHERE s.dense >= (SELECT min(b.dense) - p_margin FROM (
            SELECT t.dense FROM scored t ORDER BY t.dense DESC LIMIT p_limit) b)
        ORDER BY s.dense DESC, s.chunk_id LIMIT p_limit + p_spare
    ), by_sparse AS (
        SELECT s.chunk_id FROM scored s
        WHERE s.sparse > 0 AND s.sparse >= (SELECT min(b.sparse) * (1 - p_margin) FROM (
            SELECT t.sparse FROM scored t WHERE t.sparse > 0
            ORDER BY t.sparse DESC LIMIT p_limit) b)
        ORDER BY s.sparse DESC, s.chunk_id LIMIT p_limit + p_spare
    )
    SELECT array_agg(u.chunk_id) INTO v_ids
    FROM (SELECT chunk_id FROM by_dense UNION SELECT chunk_id FROM by_sparse) u;
    RETURN QUERY SELECT * FROM stored_chunks(p_tenant, v_ids, p_terms, p_as_of, NULL);
END
$$;

-- What a tenant's corpus is at this moment: its version, and which transaction of which database
-- wrote it last, so that a version that a restored backup counts anew is another one.
CREATE FUNCTION corpus_stamp(p_tenant text)
RETURNS TABLE (version bigint, stamp text, embedder text, indexed boolean)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    RETURN QUERY
    SELECT k.version, (SELECT d.oid::text FROM pg_database d WHERE d.datname = current_database())
                      || '.' || k.xmin::text, k.embedder, has_hnsw(p_tenant)
    FROM corpora k WHERE k.tenant_id = p_tenant AND k.chunks > 0;
END
$$;

-- The whole of a tenant's corpus in force (at the instant that belongs to its version), for an
-- index in memory; one snapshot with its version.
CREATE FUNCTION load_corpus(p_tenant text)
RETURNS TABLE (corpus_version bigint, stamp text, pinned_length double precision, chunk_count integer,
               id uuid, document_id text,
               version integer, ordinal integer, start_offset integer, end_offset integer,
               text text, title text, headings text[], page integer, metadata jsonb,
               dense halfvec, sparse sparsevec, length integer, effective_from timestamptz,
               created_at timestamptz)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    RETURN QUERY
    SELECT k.version, (SELECT t.stamp FROM corpus_stamp(p_tenant) t), k.pinned_length, k.chunks,
           c.id, c.document_id, c.version, c.ordinal, c.start_offset, c.end_offset, c.text, d.title, c.headings, c.page, d.metadata, v.dense,
           v.sparse, v.length, d.effective_from, d.created_at
    FROM corpora k
    JOIN chunk_vectors v ON v.tenant_id = k.tenant_id AND v.effective_until > k.in_force_at
                        AND v.effective_from <= k.in_force_at
    JOIN chunks c ON c.tenant_id = k.tenant_id AND c.id = v.chunk_id
    JOIN document_versions d ON d.tenant_id = k.tenant_id AND d.document_id = c.document_id
                            AND d.version = c.version
    WHERE k.tenant_id = p_tenant
    ORDER BY c.id;
END
$$;

-- Adds (or with a negative step takes away) document frequencies; each term once. The caller holds
-- the tenant's corpus row, so nobody else inserts what is missing here.
CREATE FUNCTION count_terms(p_tenant text, p_terms integer[], p_steps integer[])
RETURNS void LANGUAGE sql AS $$
    WITH moved AS (
        SELECT u.term_id, u.step FROM unnest(p_terms, p_steps) AS u (term_id, step)),
    known AS (
        UPDATE term_statistics s SET document_frequency = s.document_frequency + m.step
        FROM moved m WHERE s.tenant_id = p_tenant AND s.term_id = m.term_id
        RETURNING s.term_id)
    INSERT INTO term_statistics (tenant_id, term_id, document_frequency)
    SELECT p_tenant, m.term_id, m.step FROM moved m
    WHERE NOT EXISTS (SELECT FROM known k WHERE k.term_id = m.term_id)
    ORDER BY m.term_id;
    -- A term that no chunk has any more is forgotten: it tells of what was erased. One that is below
    -- zero here has its chunks in a block: it is taken from there next.
    DELETE FROM term_statistics s
    WHERE s.tenant_id = p_tenant AND s.document_frequency = 0 AND s.term_id = ANY (ARRAY(
        SELECT u.term_id FROM unnest(p_terms, p_steps) AS u (term_id, step) WHERE u.step < 0))
$$;
