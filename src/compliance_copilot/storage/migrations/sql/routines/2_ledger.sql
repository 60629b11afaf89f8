-- The rest of the ledger's life: further attempts, ended leases, reading and checking it.

-- Settles one attempt and reserves the next of the same request, in one transaction: no instant
-- without a live lease. NULL when the month's budget does not carry it; then nothing changed but
-- the settlement.
CREATE FUNCTION next_attempt(p_tenant text, s settlement, p_budget bigint, p_provider text,
                             p_model text, p_reserved bigint, p_unpriced boolean,
                             p_lease_seconds real)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_previous usage_events;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    PERFORM FROM tenants t WHERE t.tenant_id = p_tenant FOR NO KEY UPDATE;
    PERFORM settle(p_tenant, s);
    SELECT * INTO v_previous FROM usage_events e
    WHERE e.tenant_id = p_tenant AND e.request_id = s.request_id AND e.attempt = s.attempt;
    IF p_budget IS NOT NULL
       AND money_left(p_tenant, v_previous.started_at, p_budget) < p_reserved THEN
        UPDATE usage_events e SET final = true
        WHERE e.tenant_id = p_tenant AND e.request_id = s.request_id AND e.attempt = s.attempt;
        RETURN NULL;
    END IF;
    PERFORM hold_money(p_tenant, v_previous.started_at, p_reserved, 0);
    INSERT INTO usage_events (tenant_id, request_id, attempt, operation, key_id, provider, model,
                              reserved_micro_usd, unpriced, price_version, started_at,
                              lease_expires_at)
    VALUES (p_tenant, s.request_id, s.attempt + 1, v_previous.operation, v_previous.key_id,
            p_provider, p_model, p_reserved, p_unpriced, v_previous.price_version,
            v_previous.started_at, clock_timestamp() + make_interval(secs => p_lease_seconds));
    RETURN s.attempt + 1;
END
$$;

-- Ends what a killed process left: rows whose lease is over. A vendor may have been called, so
-- those are `interrupted` (estimated, not charged until reconciled); local work is `released`.
-- Takes what has run out, too. `v_now` and not clock_timestamp(): a call that is made anew for each
-- row is no condition of an index, and everything that a tenant keeps would be read.
CREATE FUNCTION end_leases(p_tenant text)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_ended usage_events[];
    v_now timestamptz := clock_timestamp();
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    WITH ended AS (
        UPDATE usage_events e SET
            state = CASE WHEN e.provider IN ('openai', 'anthropic') THEN 'interrupted'
                         ELSE 'released' END,
            estimated = coalesce(e.provider IN ('openai', 'anthropic'), false),
            final = true, outcome = 'interrupted', settled_at = clock_timestamp()
        WHERE e.tenant_id = p_tenant AND e.state = 'reserved'
          AND e.lease_expires_at <= v_now
        RETURNING e AS closed
    )
    SELECT array_agg(ended.closed) INTO v_ended FROM ended;
    PERFORM forget_replies(p_tenant);
    DELETE FROM conversation_turns c
    WHERE c.tenant_id = p_tenant AND c.expires_at <= v_now;
    IF v_ended IS NULL THEN RETURN 0; END IF;
    PERFORM count_in_hour(e, 1) FROM unnest(v_ended) e ORDER BY e.started_at;
    PERFORM hold_money(p_tenant, m.month, -m.held, 0)
    FROM (SELECT date_trunc('month', e.started_at, 'UTC') AS month,
                 sum(e.reserved_micro_usd)::bigint AS held
          FROM unnest(v_ended) e GROUP BY 1 ORDER BY 1) m;
    RETURN cardinality(v_ended);
END
$$;

-- One worker sweeps at a time; the others find the lock taken and go on. NULL: not this one.
CREATE FUNCTION sweep()
RETURNS integer LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
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

-- Sums over a window of the ledger: what `GET /metrics/{tenant_id}` shows. Whole hours come from
-- their sums; the ends of the window, and what is still open, from the rows: exact at any window.
CREATE FUNCTION usage_summary(p_tenant text, p_since timestamptz, p_until timestamptz)
RETURNS TABLE (total_queries bigint, successful_queries bigint, avg_latency_ms float8,
               total_requests bigint, successful_requests bigint, input_tokens bigint,
               output_tokens bigint, cost_micro_usd bigint, unpriced_events bigint,
               estimated_events bigint, open_events bigint, cache_hits bigint,
               helpful_answers bigint, wrong_answers bigint)
LANGUAGE plpgsql AS $$
DECLARE
    v_head_end timestamptz := least(p_until,
        date_trunc('hour', p_since + interval '1 hour' - interval '1 microsecond', 'UTC'));
    v_tail_start timestamptz := greatest(v_head_end, date_trunc('hour', p_until, 'UTC'));
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    RETURN QUERY
    SELECT coalesce(sum(u.queries), 0)::bigint, coalesce(sum(u.answered_queries), 0)::bigint,
           (sum(u.answered_latency_us) / nullif(sum(u.answered_queries), 0) / 1000.0)::float8,
           coalesce(sum(u.requests), 0)::bigint, coalesce(sum(u.successful_requests), 0)::bigint,
           coalesce(sum(u.input_tokens), 0)::bigint, coalesce(sum(u.output_tokens), 0)::bigint,
           coalesce(sum(u.cost_micro_usd), 0)::bigint, coalesce(sum(u.unpriced), 0)::bigint,
           coalesce(sum(u.estimated), 0)::bigint, coalesce(sum(u.open), 0)::bigint,
           coalesce(sum(u.cache_hits), 0)::bigint,
           (SELECT count(*) FROM feedback f WHERE f.tenant_id = p_tenant
            AND f.verdict = 'helpful' AND f.created_at >= p_since AND f.created_at < p_until),
           (SELECT count(*) FROM feedback f WHERE f.tenant_id = p_tenant
            AND f.verdict = 'wrong' AND f.created_at >= p_since AND f.created_at < p_until)
    FROM (
        SELECT h.queries, h.answered_queries, h.answered_latency_us, h.requests,
               h.successful_requests, h.input_tokens, h.output_tokens, h.cost_micro_usd,
               h.unpriced, h.estimated, h.cache_hits, 0 AS open
        FROM usage_hours h
        WHERE h.tenant_id = p_tenant AND h.hour >= v_head_end AND h.hour < v_tail_start
        UNION ALL
        SELECT m.queries, m.answered_queries, m.answered_latency_us, m.requests,
               m.successful_requests, m.input_tokens, m.output_tokens, m.cost_micro_usd,
               m.unpriced, m.estimated, m.cache_hits, (m.state = 'reserved')::int
        FROM usage_measures m
        WHERE m.tenant_id = p_tenant AND m.started_at >= p_since AND m.started_at < v_head_end
        UNION ALL
        SELECT m.queries, m.answered_queries, m.answered_latency_us, m.requests,
               m.successful_requests, m.input_tokens, m.output_tokens, m.cost_micro_usd,
               m.unpriced, m.estimated, m.cache_hits, (m.state = 'reserved')::int
        FROM usage_measures m
        WHERE m.tenant_id = p_tenant AND m.started_at >= v_tail_start AND m.started_at < p_until
        UNION ALL
        SELECT m.queries, m.answered_queries, m.answered_latency_us, m.requests,
               m.successful_requests, m.input_tokens, m.output_tokens, m.cost_micro_usd,
               m.unpriced, m.estimated, m.cache_hits, 1
        FROM usage_measures m
        WHERE m.tenant_id = p_tenant AND m.state = 'reserved'
          AND m.started_at >= v_head_end AND m.started_at < v_tail_start
    ) u;
END
$$;

-- A correction is a further row: it counts on the day it is made, and names what it corrects.
-- NULL when the request is not known.
CREATE FUNCTION append_correction(p_tenant text, p_request uuid, p_micro_usd bigint,
                                  p_outcome text)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_last usage_events;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    PERFORM FROM tenants t WHERE t.tenant_id = p_tenant FOR NO KEY UPDATE;
    SELECT * INTO v_last FROM usage_events e
    WHERE e.tenant_id = p_tenant AND e.request_id = p_request ORDER BY e.attempt DESC LIMIT 1;
    IF NOT FOUND THEN RETURN NULL; END IF;
    INSERT INTO usage_events (tenant_id, request_id, attempt, operation, state, provider, model,
                              provider_model, cost_micro_usd, price_version, outcome, settled_at,
                              lease_expires_at)
    VALUES (p_tenant, p_request, v_last.attempt + 1, v_last.operation, 'settled', v_last.provider,
            v_last.model, v_last.provider_model, p_micro_usd, v_last.price_version, p_outcome,
            clock_timestamp(), clock_timestamp())
    RETURNING * INTO v_last;
    PERFORM count_closed(v_last, 0, 0);
    RETURN v_last.attempt;
END
$$;

CREATE FUNCTION spend_of_ledger(p_tenant text)
RETURNS TABLE (month date, held_micro_usd bigint, settled_micro_usd bigint) LANGUAGE sql AS $$
    SELECT date_trunc('month', e.started_at AT TIME ZONE 'UTC')::date,
           coalesce(sum(e.reserved_micro_usd) FILTER (WHERE e.state = 'reserved'), 0)::bigint,
           sum(e.cost_micro_usd)::bigint
    FROM usage_events e WHERE e.tenant_id = p_tenant GROUP BY 1
$$;

CREATE FUNCTION hours_of_ledger(p_tenant text)
RETURNS SETOF usage_hours LANGUAGE sql AS $$
    SELECT m.tenant_id, date_trunc('hour', m.started_at, 'UTC'), sum(m.queries)::bigint,
           sum(m.answered_queries)::bigint, sum(m.answered_latency_us)::bigint,
           sum(m.requests)::bigint, sum(m.successful_requests)::bigint,
           sum(m.input_tokens)::bigint, sum(m.output_tokens)::bigint,
           sum(m.cost_micro_usd)::bigint, sum(m.unpriced)::bigint, sum(m.estimated)::bigint,
           sum(m.cache_hits)::bigint
    FROM usage_measures m WHERE m.tenant_id = p_tenant AND m.state <> 'reserved' GROUP BY 1, 2
$$;

-- Compares the derived sums with the ledger: one row for each that differs, none when all is well.
CREATE FUNCTION verify_sums(p_tenant text)
RETURNS TABLE (sums text, period text, stored text, ledger text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    RETURN QUERY
    SELECT 'spend_months', month::text, concat_ws('/', m.held_micro_usd, m.settled_micro_usd),
           concat_ws('/', l.held_micro_usd, l.settled_micro_usd)
    FROM spend_of_ledger(p_tenant) l
    FULL JOIN (SELECT s.month, s.held_micro_usd, s.settled_micro_usd
               FROM spend_months s WHERE s.tenant_id = p_tenant) m USING (month)
    WHERE (coalesce(m.held_micro_usd, 0), coalesce(m.settled_micro_usd, 0))
       <> (coalesce(l.held_micro_usd, 0), coalesce(l.settled_micro_usd, 0))
    UNION ALL
    SELECT 'usage_hours', coalesce(h.hour, l.hour)::text, h::text, l::text
    FROM hours_of_ledger(p_tenant) l
    FULL JOIN (SELECT * FROM usage_hours u WHERE u.tenant_id = p_tenant) h ON h.hour = l.hour
    WHERE h IS DISTINCT FROM l;
END
$$;

-- Makes the derived sums anew from the ledger. Nobody settles meanwhile; admissions wait too.
CREATE FUNCTION rebuild_sums(p_tenant text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    LOCK TABLE usage_hours, spend_months IN SHARE ROW EXCLUSIVE MODE;
    DELETE FROM usage_hours h WHERE h.tenant_id = p_tenant;
    INSERT INTO usage_hours SELECT * FROM hours_of_ledger(p_tenant);
    DELETE FROM spend_months m WHERE m.tenant_id = p_tenant;
    INSERT INTO spend_months (tenant_id, month, held_micro_usd, settled_micro_usd)
    SELECT p_tenant, l.* FROM spend_of_ledger(p_tenant) l;
END
$$;
