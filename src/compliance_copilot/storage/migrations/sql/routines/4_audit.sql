-- The audit log's one way in. `netstring` makes the hashed form unambiguous: length, colon, bytes.

CREATE FUNCTION netstring(p_text text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT convert_to(octet_length(convert_to(p_text, 'UTF8')) || ':' || p_text || ',', 'UTF8')
$$;

CREATE FUNCTION audit_hash(e audit_entries) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(e.previous_hash || netstring(e.tenant_id) || netstring(e.seq::text)
                  || netstring(to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
                  || netstring(e.actor) || netstring(e.actor_name) || netstring(e.request_id)
                  || netstring(e.action) || netstring(e.subject) || netstring(e.details))
$$;

-- Appends to one chain, in the transaction of the change. It may be another chain than the one of
-- the tenant that the transaction is in, which it is in again afterwards.
CREATE FUNCTION append_audit(p_tenant text, p_actor text, p_actor_name text, p_request text,
                             p_action text, p_subject text, p_details text,
                             OUT seq bigint, OUT hash bytea)
LANGUAGE plpgsql AS $$
DECLARE
    v_entered text := coalesce(current_setting('app.tenant_id', true), '');
    e audit_entries;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    PERFORM pg_advisory_xact_lock(hashtextextended('audit ' || p_tenant, 0));
    SELECT a.seq, a.hash INTO e.seq, e.previous_hash FROM audit_entries a
    WHERE a.tenant_id = p_tenant ORDER BY a.seq DESC LIMIT 1;
    e.tenant_id := p_tenant;
    e.seq := coalesce(e.seq, 0) + 1;
    e.previous_hash := coalesce(e.previous_hash, '');
    e.at := clock_timestamp();
    e.actor := p_actor; e.actor_name := p_actor_name; e.request_id := p_request;
    e.action := p_action; e.subject := p_subject; e.details := p_details;
    e.hash := audit_hash(e);
    INSERT INTO audit_entries SELECT e.*;
    PERFORM set_config('app.tenant_id', v_entered, true);
    seq := e.seq; hash := e.hash;
END
$$;
