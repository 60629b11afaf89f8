-- The rest of the ledger's life: further attempts, ended leases, and reading it.

-- Settles one attempt and reserves the next of the same request, in one transaction: no instant
-- without a live lease. NULL when the month's budget does not carry it; then nothing changed but
-- the settlement.
CREATE FUNCTION next_attempt(p_tenant text, s settlement, p_budget bigint, p_provider text,
                             p_model text, p_reserved bigint, p_lease_seconds real)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_previous usage_events;
BEGIN
    PERFORM settle(p_tenant, s);
    SELECT * INTO v_previous FROM usage_events e
    WHERE e.tenant_id = p_tenant AND e.request_id = s.request_id AND e.attempt = s.attempt;
    PERFORM FROM tenants t WHERE t.tenant_id = p_tenant FOR NO KEY UPDATE;
    IF p_budget IS NOT NULL
       AND money_left(p_tenant, v_previous.started_at, p_budget) < p_reserved THEN
        RETURN NULL;
    END IF;
    PERFORM hold_money(p_tenant, v_previous.started_at, p_reserved, 0);
    INSERT INTO usage_events (tenant_id, request_id, attempt, operation, key_id, provider, model,
                              reserved_micro_usd, price_version, started_at, lease_expires_at)
    VALUES (p_tenant, s.request_id, s.attempt + 1, v_previous.operation, v_previous.key_id,
            p_provider, p_model, p_reserved, v_previous.price_version, v_previous.started_at,
            clock_timestamp() + make_interval(secs => p_lease_seconds));
    RETURN s.attempt + 1;
END
$$;

-- Ends what a killed process left: rows whose lease is over. A vendor may have been called, so
-- those are `interrupted` (estimated, not charged until reconciled); local work is `released`.
CREATE FUNCTION end_leases(p_tenant text)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_row record;
    v_ended integer := 0;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    FOR v_row IN
        UPDATE usage_events e SET
            state = CASE WHEN e.provider IN ('openai', 'anthropic') THEN 'interrupted'
                         ELSE 'released' END,
            estimated = e.provider IN ('openai', 'anthropic'),
            final = true, outcome = 'interrupted', settled_at = clock_timestamp()
        WHERE e.tenant_id = p_tenant AND e.state = 'reserved'
          AND e.lease_expires_at <= clock_timestamp()
        RETURNING e.started_at, e.reserved_micro_usd
    LOOP
        PERFORM hold_money(p_tenant, v_row.started_at, -v_row.reserved_micro_usd, 0);
        v_ended := v_ended + 1;
    END LOOP;
    DELETE FROM admission_windows w
    WHERE w.tenant_id = p_tenant
      AND w.starts_at < clock_timestamp() - CASE WHEN w.width_seconds = 1 THEN interval '3 minutes'
                                                 ELSE interval '2 hours' END;
    RETURN v_ended;
END
$$;

-- One worker sweeps at a time; the others find the lock taken and go on. NULL: not this one.
CREATE FUNCTION sweep()
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_tenant text;
    v_ended integer := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('compliance_copilot.sweep')) THEN
        RETURN NULL;
    END IF;
    FOR v_tenant IN SELECT d.id FROM tenant_directory d LOOP
        v_ended := v_ended + end_leases(v_tenant);
    END LOOP;
    PERFORM set_config('app.tenant_id', '', true);
    RETURN v_ended;
END
$$;

-- Sums over a window of the ledger: what `GET /metrics/{tenant_id}` shows.
CREATE FUNCTION usage_summary(p_tenant text, p_since timestamptz, p_until timestamptz)
RETURNS TABLE (total_queries bigint, successful_queries bigint, avg_latency_ms float8,
               total_requests bigint, successful_requests bigint, input_tokens bigint,
               output_tokens bigint, cost_micro_usd bigint, unpriced_events bigint,
               estimated_events bigint, open_events bigint, cache_hits bigint)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    RETURN QUERY
    SELECT count(*) FILTER (WHERE e.operation = 'query' AND e.attempt = 1 AND counted),
           count(*) FILTER (WHERE e.operation = 'query' AND e.final AND ok),
           avg(e.request_latency_ms) FILTER (WHERE e.operation = 'query' AND e.final AND ok),
           count(*) FILTER (WHERE e.attempt = 1 AND counted),
           count(*) FILTER (WHERE e.final AND ok),
           coalesce(sum(e.input_tokens), 0), coalesce(sum(e.output_tokens), 0),
           coalesce(sum(e.cost_micro_usd), 0)::bigint,
           count(*) FILTER (WHERE e.unpriced), count(*) FILTER (WHERE e.estimated),
           count(*) FILTER (WHERE e.state = 'reserved'),
           count(*) FILTER (WHERE e.provider = 'cache')
    FROM usage_events e,
         LATERAL (SELECT e.state = 'settled' AND e.outcome IN
                  ('answered', 'partial', 'no_evidence', 'conflicting_evidence', 'ok') AS ok,
                  -- What was refused after admission (a 4xx) is no request.
                  NOT (e.state = 'released' AND coalesce(e.outcome, '') IN
                       ('invalid_request', 'limit_reached', 'budget_exhausted', 'conflict'))
                  AS counted) o
    WHERE e.tenant_id = p_tenant AND e.started_at >= p_since AND e.started_at < p_until;
END
$$;
