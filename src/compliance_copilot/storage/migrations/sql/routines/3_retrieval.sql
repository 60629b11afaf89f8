-- Exact search inside one tenant, and the statistics behind BM25.

-- The question as a sparse vector: term count x idf over this tenant's own statistics, with
-- idf = ln(1 + (N - df + 0.5) / (df + 0.5)) (Robertson & Zaragoza 2009, non-negative form).
-- The document side (term frequency, length) is in the stored vectors.
CREATE FUNCTION query_vector(p_tenant text, p_terms integer[], p_counts real[], p_chunks integer)
RETURNS sparsevec LANGUAGE sql STABLE AS $$
    SELECT ('{' || coalesce(string_agg(q.term_id || ':' || (q.weight)::real, ',' ORDER BY q.term_id),
                            '') || '}/1000000000')::sparsevec
    FROM (SELECT s.term_id,
                 u.n * ln(1 + (p_chunks - s.document_frequency + 0.5)
                              / (s.document_frequency + 0.5)) AS weight
          FROM unnest(p_terms, p_counts) AS u (term_id, n)
          JOIN term_statistics s ON s.tenant_id = p_tenant AND s.term_id = u.term_id) q
    WHERE q.weight > 0
$$;

-- Two ranked lists over the versions in force at p_as_of (NULL: now), and the chunks they name.
-- A chunk in one list only has NULL in the other's score.
CREATE FUNCTION search_chunks(p_tenant text, p_dense halfvec, p_terms integer[], p_counts real[],
                              p_limit integer, p_as_of timestamptz DEFAULT NULL)
RETURNS TABLE (id uuid, document_id text, version integer, ordinal integer, start_offset integer,
               end_offset integer, text text, title text, headings text[], page integer,
               metadata jsonb, dense_score float8, sparse_score float8, sparse sparsevec,
               length integer, chunk_count integer, pinned_length double precision,
               known_terms integer[], frequencies integer[])
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_sparse sparsevec;
    v_at timestamptz := coalesce(p_as_of, now());
    v_corpus corpora;
    v_terms integer[];
    v_frequencies integer[];
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    SELECT * INTO v_corpus FROM corpora c WHERE c.tenant_id = p_tenant;
    IF cardinality(p_terms) > 0 THEN
        v_sparse := query_vector(p_tenant, p_terms, p_counts, v_corpus.chunks);
        SELECT array_agg(s.term_id), array_agg(s.document_frequency)
        INTO v_terms, v_frequencies FROM term_statistics s
        WHERE s.tenant_id = p_tenant AND s.term_id = ANY (p_terms) AND s.document_frequency > 0;
    END IF;
    RETURN QUERY
    WITH scored AS MATERIALIZED (
        SELECT v.chunk_id, -(v.dense <#> p_dense) AS dense,
               CASE WHEN v_sparse IS NOT NULL THEN -(v.sparse <#> v_sparse) END AS sparse
        FROM chunk_vectors v
        WHERE v.tenant_id = p_tenant AND v.effective_until > v_at AND v.effective_from <= v_at
    ), by_dense AS (
        SELECT s.chunk_id, s.dense FROM scored s
        ORDER BY s.dense DESC, s.chunk_id LIMIT p_limit
    ), by_sparse AS (
        SELECT s.chunk_id, s.sparse FROM scored s WHERE s.sparse > 0
        ORDER BY s.sparse DESC, s.chunk_id LIMIT p_limit
    )
    SELECT c.id, c.document_id, c.version, c.ordinal, c.start_offset, c.end_offset, c.text,
           d.title, c.headings, c.page, d.metadata, bd.dense, bs.sparse,
           CASE WHEN v_sparse IS NOT NULL THEN v.sparse END, v.length, v_corpus.chunks,
           v_corpus.pinned_length, v_terms, v_frequencies
    FROM by_dense bd FULL JOIN by_sparse bs ON bs.chunk_id = bd.chunk_id
    JOIN chunks c ON c.tenant_id = p_tenant AND c.id = coalesce(bd.chunk_id, bs.chunk_id)
    JOIN chunk_vectors v ON v.tenant_id = p_tenant AND v.chunk_id = c.id
    JOIN document_versions d ON d.tenant_id = p_tenant AND d.document_id = c.document_id
                            AND d.version = c.version;
END
$$;

-- The whole of a tenant's corpus in force, for an index in memory; one snapshot with its version.
CREATE FUNCTION load_corpus(p_tenant text)
RETURNS TABLE (corpus_version bigint, pinned_length double precision, id uuid, document_id text,
               version integer, ordinal integer, start_offset integer, end_offset integer,
               text text, title text, headings text[], page integer, metadata jsonb,
               dense halfvec, sparse sparsevec, length integer)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    RETURN QUERY
    SELECT k.version, k.pinned_length, c.id, c.document_id, c.version, c.ordinal, c.start_offset,
           c.end_offset, c.text, d.title, c.headings, c.page, d.metadata, v.dense, v.sparse,
           v.length
    FROM corpora k
    JOIN chunk_vectors v ON v.tenant_id = k.tenant_id AND v.effective_until > now()
                        AND v.effective_from <= now()
    JOIN chunks c ON c.tenant_id = k.tenant_id AND c.id = v.chunk_id
    JOIN document_versions d ON d.tenant_id = k.tenant_id AND d.document_id = c.document_id
                            AND d.version = c.version
    WHERE k.tenant_id = p_tenant
    ORDER BY c.id;
END
$$;

-- Adds (or with a negative step takes away) one chunk's worth of document frequencies.
CREATE FUNCTION count_terms(p_tenant text, p_terms integer[], p_steps integer[])
RETURNS void LANGUAGE sql AS $$
    INSERT INTO term_statistics AS s (tenant_id, term_id, document_frequency)
    SELECT p_tenant, u.term_id, u.step FROM unnest(p_terms, p_steps) AS u (term_id, step)
    ORDER BY u.term_id
    ON CONFLICT (tenant_id, term_id)
    DO UPDATE SET document_frequency = s.document_frequency + excluded.document_frequency
$$;
