-- From chunks to others that belong to them: what stands around, and what is referred to.

-- The chunks that stand at most p_reach before or after the given ones in the same text.
CREATE FUNCTION chunks_around(p_tenant text, p_ids uuid[], p_reach integer)
RETURNS TABLE (id uuid) LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    RETURN QUERY
    SELECT DISTINCT n.id
    FROM chunks c
    JOIN chunks n ON n.tenant_id = p_tenant AND n.document_id = c.document_id
                 AND n.version = c.version AND n.ordinal <> c.ordinal
                 AND n.ordinal BETWEEN c.ordinal - p_reach AND c.ordinal + p_reach
    WHERE c.tenant_id = p_tenant AND c.id = ANY (p_ids) AND n.id <> ALL (p_ids)
    ORDER BY n.id;
END
$$;

-- The chunks whose heading, or the title of whose text, begins or ends with one of the numbers
-- ("4.2 Encryption", "Section 4.2", "Rulebook 3.4.1"); those of p_documents come first, at most
-- p_limit for each number. Numbers hold letters, digits and points only.
CREATE FUNCTION chunks_numbered(p_tenant text, p_numbers text[], p_documents text[],
                                p_limit integer)
RETURNS TABLE (number text, id uuid) LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    RETURN QUERY
    SELECT n.number, f.id
    FROM unnest(p_numbers) WITH ORDINALITY AS n (number, place)
    CROSS JOIN LATERAL (
        SELECT c.id
        FROM chunks c
        JOIN chunk_vectors v ON v.tenant_id = p_tenant AND v.chunk_id = c.id
        JOIN document_versions d ON d.tenant_id = p_tenant AND d.document_id = c.document_id
                                AND d.version = c.version
        WHERE c.tenant_id = p_tenant
          AND (c.headings[cardinality(c.headings)]
                   ~* ('^(\w+\.?\s+|§+\s*)?' || replace(n.number, '.', '\.') || '($|[^\w.]|\.(\s|$))')
               OR d.title ~* ('(^|\s)' || replace(n.number, '.', '\.') || '\.?$'))
        ORDER BY (c.document_id = ANY (p_documents)) DESC, v.effective_until DESC, c.document_id,
                 c.ordinal
        LIMIT p_limit) f
    ORDER BY n.place;
END
$$;
