-- Erasure goes through the catalog, so a table that comes later cannot be forgotten: every table
-- with a tenant_id is emptied, and looked through afterwards, unless it is named here.

-- Kept without content: the tombstone, receipts, the audit log, and what an invoice is drawn from.
CREATE FUNCTION is_kept(p_table text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT p_table IN ('tenants', 'erasures', 'audit_entries', 'usage_events', 'usage_hours',
                       'spend_months')
$$;

CREATE FUNCTION erasable_columns()
RETURNS TABLE (table_name text, column_name text, type_name text) LANGUAGE sql STABLE AS $$
    SELECT c.relname::text, a.attname::text, format_type(a.atttypid, NULL)
    FROM pg_class c
    JOIN pg_attribute t ON t.attrelid = c.oid AND t.attname = 'tenant_id' AND NOT t.attisdropped
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
      AND NOT is_kept(c.relname::text)
    ORDER BY 1, 2
$$;

-- The operator's or the tenant's own legal hold: {value, set_by, set_at}; NULL: none.
CREATE FUNCTION legal_hold(p_tenant text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT coalesce(t.config -> 'legal_hold', s.config -> 'legal_hold')
    FROM tenants t, system_state s WHERE t.tenant_id = p_tenant
$$;

-- A condition that tells whether a column names one of the ids; NULL: this column names nothing.
-- Chunks are looked for in every uuid, documents where a name or a member says `document`.
CREATE FUNCTION naming_condition(p_column text, p_type text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN p_type = 'uuid' THEN format('%I::text = ANY ($2)', p_column)
        WHEN p_type = 'uuid[]' THEN format('%I::text[] && $2', p_column)
        WHEN p_type = 'text' AND p_column LIKE '%document%' THEN format('%I = ANY ($2)', p_column)
        WHEN p_type = 'text[]' AND p_column LIKE '%document%' THEN format('%I && $2', p_column)
        WHEN p_type IN ('json', 'jsonb') THEN format(
            'jsonb_path_exists(%I::jsonb, ''$.**.document_id ? (@ == $ids[*])'','
            ' jsonb_build_object(''ids'', $2))', p_column)
    END
$$;

-- Takes every row that was made from a document and is not the document itself; counts by table.
-- A conversation in which an answer showed it goes as a whole: one question leans on the other.
CREATE FUNCTION erase_document_rows(p_tenant text, p_document text) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v_column record;
    v_rows bigint;
    v_counts jsonb := '{}';
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    DELETE FROM conversation_turns c
    WHERE c.tenant_id = p_tenant AND c.conversation_id IN (
        SELECT o.conversation_id FROM conversation_turns o
        JOIN replies r ON r.tenant_id = o.tenant_id AND r.request_id = o.request_id
        WHERE o.tenant_id = p_tenant AND r.document_ids && ARRAY[p_document]);
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    IF v_rows > 0 THEN
        v_counts := jsonb_build_object('conversation_turns', v_rows);
    END IF;
    FOR v_column IN
        SELECT e.table_name AS t, naming_condition(e.column_name, e.type_name) AS names_it
        FROM erasable_columns() e
        WHERE e.table_name NOT IN ('documents', 'document_versions', 'chunks')
          AND (e.column_name LIKE '%document%' OR e.table_name = 'replies')
          AND e.type_name NOT LIKE 'uuid%'
    LOOP
        CONTINUE WHEN v_column.names_it IS NULL;
        EXECUTE format('DELETE FROM %I WHERE tenant_id = $1 AND %s', v_column.t, v_column.names_it)
        USING p_tenant, ARRAY[p_document];
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        IF v_rows > 0 THEN
            v_counts := v_counts || jsonb_build_object(
                v_column.t, v_rows + coalesce((v_counts ->> v_column.t)::bigint, 0));
        END IF;
    END LOOP;
    RETURN v_counts;
END
$$;

-- Empties the tenant's tables, those that others point to last; counts by table. What may not be
-- emptied is left, and the probe names it.
CREATE FUNCTION erase_tenant_rows(p_tenant text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    v_table text;
    v_rows bigint;
    v_pass bigint := 1;
    v_counts jsonb := '{}';
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    WHILE v_pass > 0 LOOP
        v_pass := 0;
        FOR v_table IN SELECT DISTINCT e.table_name FROM erasable_columns() e
                       ORDER BY e.table_name LOOP
            BEGIN
                EXECUTE format('DELETE FROM %I WHERE tenant_id = $1', v_table) USING p_tenant;
                GET DIAGNOSTICS v_rows = ROW_COUNT;
            EXCEPTION WHEN foreign_key_violation OR insufficient_privilege THEN
                v_rows := 0;
            END;
            IF v_rows > 0 THEN
                v_pass := v_pass + v_rows;
                v_counts := v_counts || jsonb_build_object(
                    v_table, v_rows + coalesce((v_counts ->> v_table)::bigint, 0));
            END IF;
        END LOOP;
    END LOOP;
    UPDATE tenants t SET name = '', config = '{}', limits = '{}'
    WHERE t.tenant_id = p_tenant AND (t.name <> '' OR t.config <> '{}' OR t.limits <> '{}');
    RETURN v_counts;
END
$$;

-- The probe: rows still there, by table. Of a document: that name it or one of its chunks; a
-- document stored anew under the same id since is another one.
CREATE FUNCTION rows_left(p_tenant text, p_erasure uuid) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    v_erasure erasures;
    v_column record;
    v_ids text[];
    v_rows bigint;
    v_anew boolean;
    v_left jsonb := '{}';
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    SELECT * INTO v_erasure FROM erasures e WHERE e.tenant_id = p_tenant AND e.id = p_erasure;
    v_anew := EXISTS (SELECT FROM documents d WHERE d.tenant_id = p_tenant
                      AND d.document_id = v_erasure.subject
                      AND d.created_at > v_erasure.requested_at);
    v_ids := v_erasure.traces || CASE WHEN v_anew THEN '{}' ELSE ARRAY[v_erasure.subject] END;
    FOR v_column IN
        SELECT DISTINCT e.table_name AS t,
               CASE WHEN v_erasure.what = 'tenant' THEN 'true'
                    ELSE naming_condition(e.column_name, e.type_name) END AS names_it
        FROM erasable_columns() e ORDER BY 1
    LOOP
        CONTINUE WHEN v_column.names_it IS NULL;
        EXECUTE format('SELECT count(*) FROM %I WHERE tenant_id = $1 AND %s',
                       v_column.t, v_column.names_it)
        INTO v_rows USING p_tenant, v_ids;
        IF v_rows > 0 THEN
            v_left := v_left || jsonb_build_object(
                v_column.t, v_rows + coalesce((v_left ->> v_column.t)::bigint, 0));
        END IF;
    END LOOP;
    RETURN v_left;
END
$$;

-- Requests that were let in before an erasure and may still write what they have read: of a
-- document the questions, of a tenant every one.
CREATE FUNCTION requests_before(p_tenant text, p_at timestamptz, p_what text) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM usage_events e
    WHERE e.tenant_id = p_tenant AND e.state = 'reserved' AND e.started_at <= p_at
      AND (p_what = 'tenant' OR e.operation <> 'ingest')
      AND e.lease_expires_at > (SELECT clock_timestamp())  -- asked once: see end_leases
$$;

-- How many days documents are kept after their last change; NULL: until somebody erases them.
CREATE FUNCTION document_retention_days(p_tenant text) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT (coalesce(t.config -> 'document_retention_days', s.config -> 'document_retention_days')
            ->> 'value')::integer
    FROM tenants t, system_state s WHERE t.tenant_id = p_tenant
$$;

-- Work that waits for nobody's request: versions that are due, erasures that are not finished,
-- documents whose time is over (some at a time; none under legal hold).
CREATE FUNCTION work_waiting()
RETURNS TABLE (tenant_id text, erasure_id uuid, document_id text) LANGUAGE plpgsql AS $$
DECLARE
    v_tenant text;
    v_days integer;
    v_now timestamptz := clock_timestamp();  -- a variable: see end_leases
BEGIN
    FOR v_tenant IN SELECT d.id FROM tenant_directory d LOOP
        PERFORM set_config('app.tenant_id', v_tenant, true);
        RETURN QUERY
        SELECT c.tenant_id, NULL::uuid, NULL::text FROM corpora c
        WHERE c.tenant_id = v_tenant AND c.next_change_at <= v_now
        UNION ALL
        SELECT e.tenant_id, e.id, NULL FROM erasures e
        WHERE e.tenant_id = v_tenant AND e.state <> 'finished';
        v_days := document_retention_days(v_tenant);
        CONTINUE WHEN v_days IS NULL OR legal_hold(v_tenant) IS NOT NULL;
        RETURN QUERY
        SELECT d.tenant_id, NULL::uuid, d.document_id FROM documents d
        WHERE d.tenant_id = v_tenant AND d.updated_at < v_now - make_interval(days => v_days)
        ORDER BY d.updated_at, d.document_id LIMIT 100;
    END LOOP;
    PERFORM set_config('app.tenant_id', '', true);
END
$$;
