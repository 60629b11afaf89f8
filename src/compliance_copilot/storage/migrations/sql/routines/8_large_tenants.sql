-- Large tenants: an HNSW index of the tenant's own vectors alone, so that no other tenant's vector
-- moves a result. Made and dropped by the owner (`storage/large_tenants.py`).

CREATE FUNCTION hnsw_name(p_tenant text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT 'hnsw_' || md5(p_tenant)
$$;

-- Whether the tenant has such an index, complete.
CREATE FUNCTION has_hnsw(p_tenant text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
        WHERE c.relname = hnsw_name(p_tenant) AND c.relnamespace = 'public'::regnamespace
          AND i.indisvalid)
$$;

-- The statement is built for each tenant because a partial index is used only where the planner
-- sees the tenant as a constant; format() quotes it. Versions out of force are in the index, too:
-- the iterative scan goes on until enough are found that are in force.
CREATE FUNCTION nearest_by_hnsw(p_tenant text, p_dense halfvec, p_limit integer, p_at timestamptz)
RETURNS uuid[] LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_ids uuid[];
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true),
            set_config('hnsw.iterative_scan', 'relaxed_order', true),
            set_config('hnsw.ef_search', '400', true);
    EXECUTE format(
        'SELECT array_agg(n.chunk_id) FROM (SELECT v.chunk_id FROM public.chunk_vectors v'
        ' WHERE v.tenant_id = %L AND v.effective_until > $2 AND v.effective_from <= $2'
        ' ORDER BY v.dense::halfvec(%s) <#> $1 LIMIT $3) n', p_tenant, vector_dims(p_dense))
    INTO v_ids USING p_dense, p_at, p_limit;
    RETURN v_ids;
END
$$;
