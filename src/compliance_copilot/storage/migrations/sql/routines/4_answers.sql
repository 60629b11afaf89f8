-- Kept replies: reading one again, what readers say about it, and its end.

-- What settlement calls. Days 0: nothing is kept, except for a day when an Idempotency-Key waits;
-- `p_perhaps_claimed`: one may.
CREATE FUNCTION keep_reply(p_tenant text, s settlement, p_operation text,
                           p_perhaps_claimed boolean)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_claimed boolean := false;
    v_days integer;
BEGIN
    IF p_perhaps_claimed THEN
        UPDATE idempotency_keys k SET finished = true
        WHERE k.tenant_id = p_tenant AND k.request_id = s.request_id;
        v_claimed := FOUND;
    END IF;
    v_days := greatest(s.retention_days, v_claimed::integer);
    IF v_days = 0 OR (p_operation <> 'query' AND NOT v_claimed) THEN RETURN; END IF;
    INSERT INTO replies (tenant_id, request_id, operation, reply, content_hash, document_ids,
                         expires_at)
    VALUES (p_tenant, s.request_id, p_operation, s.reply, s.content_hash,
            coalesce(s.documents, '{}'), clock_timestamp() + make_interval(days => v_days))
    ON CONFLICT DO NOTHING;
END
$$;

-- `kept`, `gone` (there was an answer once) or `unknown`, the reply, and whose key asked.
CREATE FUNCTION kept_answer(p_tenant text, p_request uuid, OUT state text, OUT reply json,
                            OUT asked_by text)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    SELECT r.reply INTO kept_answer.reply FROM replies r
    WHERE r.tenant_id = p_tenant AND r.request_id = p_request AND r.operation = 'query'
      AND r.expires_at > clock_timestamp();
    IF FOUND THEN
        state := 'kept';
        SELECT e.key_id INTO asked_by FROM usage_events e
        WHERE e.tenant_id = p_tenant AND e.request_id = p_request AND e.attempt = 1;
        RETURN;
    END IF;
    state := CASE WHEN EXISTS (
        SELECT FROM usage_measures m
        WHERE m.tenant_id = p_tenant AND m.request_id = p_request AND m.answered_queries > 0
    ) THEN 'gone' ELSE 'unknown' END;
END
$$;

-- One verdict of a key for an answer; the last one holds.
CREATE FUNCTION note_feedback(p_tenant text, p_request uuid, p_key text, p_verdict text,
                              p_comment text)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_state text;
BEGIN
    SELECT k.state INTO v_state FROM kept_answer(p_tenant, p_request) k;
    IF v_state = 'kept' THEN
        INSERT INTO feedback AS f (tenant_id, request_id, key_id, verdict, comment, document_ids)
        SELECT p_tenant, p_request, p_key, p_verdict, p_comment, r.document_ids
        FROM replies r WHERE r.tenant_id = p_tenant AND r.request_id = p_request
        ON CONFLICT (tenant_id, request_id, key_id) DO UPDATE SET
            verdict = excluded.verdict, comment = excluded.comment,
            created_at = excluded.created_at;
    END IF;
    RETURN v_state;
END
$$;

-- Takes replies that have run out, with what was said about them; erasing a document takes those
-- that name it in document_ids.
CREATE FUNCTION forget_replies(p_tenant text)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_taken uuid[];
    v_now timestamptz := clock_timestamp();  -- a variable: see end_leases
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    IF legal_hold(p_tenant) IS NOT NULL THEN RETURN 0; END IF;
    WITH taken AS (
        DELETE FROM replies r
        WHERE r.tenant_id = p_tenant AND r.request_id IN (
            SELECT o.request_id FROM replies o
            WHERE o.tenant_id = p_tenant AND o.expires_at <= v_now LIMIT 1000)
        RETURNING r.request_id
    )
    SELECT array_agg(t.request_id) INTO v_taken FROM taken t;
    IF v_taken IS NULL THEN RETURN 0; END IF;
    UPDATE feedback f SET comment = NULL
    WHERE f.tenant_id = p_tenant AND f.request_id = ANY (v_taken) AND f.comment IS NOT NULL;
    RETURN cardinality(v_taken);
END
$$;

-- A shorter retention holds for what is kept already; a longer one for what comes.
CREATE FUNCTION shorten_retention(p_tenant text, p_days integer)
RETURNS void LANGUAGE sql AS $$
    UPDATE replies r SET expires_at = r.created_at + make_interval(days => p_days)
    WHERE r.tenant_id = p_tenant AND r.expires_at > r.created_at + make_interval(days => p_days)
$$;
