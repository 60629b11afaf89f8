-- The hot path, one function per round trip. Each enters its tenant in its first line.
--
-- Whoever writes locks in this order, so that no two wait for one another: tenants, usage_events,
-- admission_windows, usage_hours, spend_months, idempotency_keys, replies, api_keys.

-- The tenant and the scopes of a presented key; no row when it is unknown, revoked or expired.
CREATE FUNCTION authenticate(p_key_hash bytea)
RETURNS TABLE (tenant_id text, key_id uuid, name text, scopes text[], expires_at timestamptz,
               tenant_status text)
LANGUAGE plpgsql AS $$
DECLARE
    v_key api_keys;
    v_status text;
BEGIN
    PERFORM set_config('app.key_hash', encode(p_key_hash, 'hex'), true);
    SELECT * INTO v_key FROM api_keys k
    WHERE k.key_hash = p_key_hash AND k.revoked_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > now());
    PERFORM set_config('app.key_hash', '', true);
    IF NOT FOUND OR v_key.id IS NULL THEN
        RETURN;
    END IF;
    PERFORM set_config('app.tenant_id', v_key.tenant_id, true);
    SELECT t.status INTO v_status FROM tenants t WHERE t.tenant_id = v_key.tenant_id;
    IF v_status = 'deleted' THEN RETURN; END IF;  -- a key made while the tenant was ended
    UPDATE api_keys k SET last_used_at = now()
    WHERE k.tenant_id = v_key.tenant_id AND k.id = v_key.id
      AND (k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute');
    RETURN QUERY SELECT v_key.tenant_id, v_key.id, v_key.name, v_key.scopes, v_key.expires_at,
                        v_status;
END
$$;

-- Seconds until a rolling window has room again, 0 when it has; the sum is of buckets that
-- may reach into the window, so never fewer than really happened.
CREATE FUNCTION window_state(p_tenant text, p_width integer, p_window integer, p_limit integer,
                             p_now timestamptz, OUT admitted bigint, OUT retry_after real,
                             OUT reset_after real)
LANGUAGE plpgsql AS $$
BEGIN
    -- reset_after: when the oldest that is counted leaves, which is when room comes back.
    SELECT coalesce(sum(w.admitted), 0),
           coalesce(extract(epoch FROM min(w.starts_at) - p_now), 0) + p_window + p_width
    INTO admitted, reset_after FROM admission_windows w
    WHERE w.tenant_id = p_tenant AND w.width_seconds = p_width
      AND w.starts_at > p_now - make_interval(secs => p_window + p_width);
    retry_after := 0;
    IF p_limit IS NOT NULL AND admitted >= p_limit THEN
        -- The bucket whose leaving makes room: the oldest buckets leave first.
        SELECT extract(epoch FROM b.starts_at - p_now) + p_window + p_width INTO retry_after
        FROM (SELECT w.starts_at, sum(w.admitted) OVER (ORDER BY w.starts_at) AS left_by_then
              FROM admission_windows w
              WHERE w.tenant_id = p_tenant AND w.width_seconds = p_width
                AND w.starts_at > p_now - make_interval(secs => p_window + p_width)) b
        WHERE b.left_by_then > admitted - p_limit
        ORDER BY b.starts_at LIMIT 1;
        retry_after := coalesce(retry_after, p_window);
    END IF;
END
$$;

-- Counts a request (p_step 1) or takes it out again: every one in its second, questions and
-- searches in their minute too.
CREATE FUNCTION count_in_windows(p_tenant text, p_operation text, p_at timestamptz, p_step integer)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO admission_windows AS w (tenant_id, width_seconds, starts_at, admitted)
    SELECT p_tenant, n.width,
           to_timestamp(floor(extract(epoch FROM p_at) / n.width) * n.width), p_step
    FROM unnest(CASE p_operation WHEN 'ingest' THEN '{1}' ELSE '{1,60}' END::integer[]) n(width)
    ON CONFLICT (tenant_id, width_seconds, starts_at)
    DO UPDATE SET admitted = w.admitted + excluded.admitted;
END
$$;

CREATE FUNCTION hold_money(p_tenant text, p_at timestamptz, p_held bigint, p_settled bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_held <> 0 OR p_settled <> 0 THEN
        INSERT INTO spend_months AS m (tenant_id, month, held_micro_usd, settled_micro_usd)
        VALUES (p_tenant, date_trunc('month', p_at AT TIME ZONE 'UTC')::date, p_held, p_settled)
        ON CONFLICT (tenant_id, month) DO UPDATE
        SET held_micro_usd = m.held_micro_usd + excluded.held_micro_usd,
            settled_micro_usd = m.settled_micro_usd + excluded.settled_micro_usd;
    END IF;
END
$$;

CREATE FUNCTION money_left(p_tenant text, p_at timestamptz, p_budget bigint)
RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT p_budget - coalesce(sum(m.held_micro_usd + m.settled_micro_usd), 0)::bigint
    FROM spend_months m
    WHERE m.tenant_id = p_tenant AND m.month = date_trunc('month', p_at AT TIME ZONE 'UTC')::date
$$;

-- What admission is asked. Limits were computed from configuration `version`; when that is no
-- longer the present one, nothing is admitted and the new configuration is given back.
CREATE TYPE admission_request AS (
    request_id uuid, operation text, key_hash bytea, scope text, version bigint,
    queries_per_hour integer, requests_per_minute integer, concurrent integer,
    budget_micro_usd bigint,
    provider text, model text, price_version text, reserved_micro_usd bigint, unpriced boolean,
    lease_seconds real, idempotency_key text, body_hash bytea, continues boolean,
    max_documents integer, max_bytes bigint);

-- The limits on documents and bytes are kept by the transaction that stores them, where their number
-- is known; admission refuses who is above one already (it was lowered).
-- verdict: admitted | settled (by `admit_ready`) | stale | due (a version comes into force: move the corpus, ask again) | unknown_tenant | suspended | unauthenticated | forbidden
--          | replay | running | idempotency_mismatch | gone
--          | max_documents | max_bytes
--          | queries_per_hour | requests_per_minute | concurrent_requests | budget
CREATE TYPE admission_reply AS (
    verdict text, version bigint, tenant_config jsonb, tenant_limits jsonb, system_config jsonb,
    corpus_version bigint, quota bigint, remaining bigint, retry_after real,
    reset_after real, reply json, original_request_id uuid, provider_keys jsonb,
    attempt integer);

-- What admission sees of its tenant at one look: the locked row, and beside it the key, the
-- version of the system's configuration and the corpus.
CREATE TYPE admission_sight AS (
    status text, version bigint, corpus_version bigint, next_change_at timestamptz,
    key_id uuid, scopes text[], key_used_at timestamptz);

CREATE FUNCTION check_caller(r admission_request, v admission_sight)
RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF r.key_hash IS NOT NULL THEN
        IF v.key_id IS NULL THEN RETURN 'unauthenticated'; END IF;
        IF NOT r.scope = ANY (v.scopes) THEN RETURN 'forbidden'; END IF;
    END IF;
    IF v.status IS NULL OR v.status = 'deleted' THEN RETURN 'unknown_tenant'; END IF;
    IF v.status <> 'active' THEN RETURN 'suspended'; END IF;
    RETURN NULL;
END
$$;

-- An Idempotency-Key names one request for ever. A run that ended without a reply (its process
-- died, or it failed) is taken over by a repeat of the same body; a refused one (4xx) has given
-- its key back altogether.
CREATE FUNCTION claim_idempotency(p_tenant text, r admission_request, INOUT a admission_reply)
LANGUAGE plpgsql AS $$
DECLARE
    v_seen idempotency_keys;
BEGIN
    SELECT * INTO v_seen FROM idempotency_keys k
    WHERE k.tenant_id = p_tenant AND k.operation = r.operation AND k.key = r.idempotency_key;
    IF NOT FOUND THEN RETURN; END IF;
    a.original_request_id := v_seen.request_id;
    IF v_seen.body_hash <> r.body_hash THEN
        a.verdict := 'idempotency_mismatch';
    ELSIF v_seen.finished THEN
        SELECT p.reply INTO a.reply FROM replies p
        WHERE p.tenant_id = p_tenant AND p.request_id = v_seen.request_id
          AND p.expires_at > clock_timestamp();
        a.verdict := CASE WHEN a.reply IS NULL THEN 'gone' ELSE 'replay' END;
    ELSIF EXISTS (SELECT FROM usage_events e WHERE e.tenant_id = p_tenant
                  AND e.request_id = v_seen.request_id AND e.state = 'reserved'
                  AND e.lease_expires_at > clock_timestamp()) THEN
        a.verdict := 'running';
        a.retry_after := 1;
    END IF;
END
$$;

-- All counts are read by one statement; what a refusal has to tell is asked only then.
CREATE FUNCTION check_limits(p_tenant text, r admission_request, p_now timestamptz,
                             INOUT a admission_reply)
LANGUAGE plpgsql AS $$
DECLARE
    v_minute bigint;
    v_hour bigint;
    v_oldest timestamptz;
    v_running bigint;
BEGIN
    SELECT (SELECT coalesce(sum(w.admitted), 0) FROM admission_windows w
            WHERE w.tenant_id = p_tenant AND w.width_seconds = 1
              AND w.starts_at > p_now - interval '61 seconds'),
           h.admitted, h.oldest,
           (SELECT count(DISTINCT e.request_id) FROM usage_events e
            WHERE e.tenant_id = p_tenant AND e.state = 'reserved' AND e.lease_expires_at > p_now)
    INTO v_minute, v_hour, v_oldest, v_running
    FROM (SELECT coalesce(sum(w.admitted), 0) AS admitted, min(w.starts_at) AS oldest
          FROM admission_windows w
          WHERE w.tenant_id = p_tenant AND w.width_seconds = 60
            AND w.starts_at > p_now - interval '3660 seconds') h;
    IF v_minute >= r.requests_per_minute THEN
        a.verdict := 'requests_per_minute'; a.quota := r.requests_per_minute; a.remaining := 0;
        SELECT w.retry_after INTO a.retry_after
        FROM window_state(p_tenant, 1, 60, r.requests_per_minute, p_now) w;
        RETURN;
    END IF;
    IF r.operation = 'ingest' THEN
        SELECT CASE WHEN c.documents > r.max_documents THEN 'max_documents'
                    WHEN c.text_bytes > r.max_bytes THEN 'max_bytes' END
        INTO a.verdict FROM corpora c WHERE c.tenant_id = p_tenant;
        IF a.verdict IS NOT NULL THEN
            a.quota := CASE a.verdict WHEN 'max_documents' THEN r.max_documents ELSE r.max_bytes END;
            a.remaining := 0; a.retry_after := 3600; RETURN;
        END IF;
    ELSE
        a.quota := r.queries_per_hour; a.remaining := r.queries_per_hour - v_hour - 1;
        a.reset_after := coalesce(extract(epoch FROM v_oldest - p_now), 0) + 3660;
        IF v_hour >= r.queries_per_hour THEN
            a.verdict := 'queries_per_hour'; a.remaining := 0;
            SELECT w.retry_after INTO a.retry_after
            FROM window_state(p_tenant, 60, 3600, r.queries_per_hour, p_now) w;
            RETURN;
        END IF;
    END IF;
    IF v_running >= r.concurrent THEN
        a.verdict := 'concurrent_requests'; a.quota := r.concurrent; a.remaining := 0;
        a.retry_after := 1; RETURN;
    END IF;
    IF r.budget_micro_usd IS NOT NULL
       AND money_left(p_tenant, p_now, r.budget_micro_usd) < r.reserved_micro_usd THEN
        a.verdict := 'budget'; a.quota := r.budget_micro_usd;
        a.remaining := greatest(0, money_left(p_tenant, p_now, r.budget_micro_usd));
        a.retry_after := extract(epoch FROM (date_trunc('month', p_now AT TIME ZONE 'UTC')
            + interval '1 month') AT TIME ZONE 'UTC' - p_now);
    END IF;
END
$$;

-- What a worker with an old configuration is given instead of an admission.
CREATE FUNCTION present_configuration(p_tenant text, INOUT a admission_reply)
LANGUAGE plpgsql AS $$
BEGIN
    a.verdict := 'stale';
    SELECT s.version + t.version, t.config, t.limits, s.config
    INTO a.version, a.tenant_config, a.tenant_limits, a.system_config
    FROM tenants t, system_state s WHERE t.tenant_id = p_tenant;
    SELECT jsonb_object_agg(k.provider, encode(k.sealed, 'hex')) INTO a.provider_keys
    FROM provider_keys k WHERE k.tenant_id = p_tenant;
END
$$;

-- Design section 6, step 2: who, which configuration, every limit, the reservation and the
-- intent row, in one atomic round trip. Admissions of one tenant queue at its row; those of
-- different tenants do not meet. Generic plans: with auto, statements on recent instants look so much
-- cheaper with their values known that they are planned anew each time, for longer than they run.
CREATE FUNCTION admit(p_tenant text, r admission_request)
RETURNS admission_reply LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    a admission_reply;
    v admission_sight;
    v_now timestamptz;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    SELECT t.status, s.version + t.version, coalesce(c.version, 0), c.next_change_at,
           k.id, k.scopes, k.last_used_at INTO v
    FROM tenants t CROSS JOIN system_state s
    LEFT JOIN corpora c ON c.tenant_id = t.tenant_id
    LEFT JOIN api_keys k ON k.tenant_id = t.tenant_id AND k.key_hash = r.key_hash
          AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
    WHERE t.tenant_id = p_tenant FOR NO KEY UPDATE OF t;
    v_now := clock_timestamp();
    a.verdict := check_caller(r, v);
    IF a.verdict IS NOT NULL THEN RETURN a; END IF;
    a.version := v.version;
    IF a.version <> r.version THEN
        a := present_configuration(p_tenant, a);
        RETURN a;
    END IF;
    a.corpus_version := v.corpus_version;
    IF v.next_change_at <= v_now THEN
        a.verdict := 'due'; RETURN a;
    END IF;
    IF r.idempotency_key IS NOT NULL THEN
        a := claim_idempotency(p_tenant, r, a);
        IF a.verdict IS NOT NULL THEN RETURN a; END IF;
    END IF;
    a := check_limits(p_tenant, r, v_now, a);
    IF a.verdict IS NOT NULL THEN RETURN a; END IF;

    -- What continues a request (a job's batches) was counted with its first attempt.
    a.attempt := 1;
    IF r.continues THEN
        SELECT coalesce(max(e.attempt), 0) + 1 INTO a.attempt FROM usage_events e
        WHERE e.tenant_id = p_tenant AND e.request_id = r.request_id;
    ELSE
        PERFORM count_in_windows(p_tenant, r.operation, v_now, 1);
    END IF;
    IF r.reserved_micro_usd <> 0 THEN
        PERFORM hold_money(p_tenant, v_now, r.reserved_micro_usd, 0);
    END IF;
    INSERT INTO usage_events (tenant_id, request_id, attempt, operation, key_id, provider, model,
                              reserved_micro_usd, price_version, unpriced, started_at,
                              lease_expires_at)
    VALUES (p_tenant, r.request_id, a.attempt, r.operation, v.key_id::text, r.provider, r.model,
            r.reserved_micro_usd, r.price_version, r.unpriced, v_now,
            v_now + make_interval(secs => r.lease_seconds));
    IF r.idempotency_key IS NOT NULL THEN
        INSERT INTO idempotency_keys (tenant_id, operation, key, body_hash, request_id)
        VALUES (p_tenant, r.operation, r.idempotency_key, r.body_hash, r.request_id)
        ON CONFLICT (tenant_id, operation, key)
        DO UPDATE SET request_id = excluded.request_id, created_at = now();
    END IF;
    IF v.key_id IS NOT NULL
       AND (v.key_used_at IS NULL OR v.key_used_at < v_now - interval '1 minute') THEN
        UPDATE api_keys k SET last_used_at = v_now
        WHERE k.tenant_id = p_tenant AND k.id = v.key_id;
    END IF;
    a.verdict := 'admitted';
    RETURN a;
END
$$;

CREATE TYPE settlement AS (
    request_id uuid, attempt integer, state text, final boolean, provider text, model text,
    provider_model text, provider_response_id text, input_tokens integer, output_tokens integer,
    cached_input_tokens integer, cost_micro_usd bigint, unpriced boolean, estimated boolean,
    outcome text, latency_ms real, request_latency_ms real, uncounted boolean, reply json,
    content_hash text, documents text[], retention_days integer);

-- What each row of the ledger adds to the sums over time: the one definition, for single rows and
-- for rebuilding.
CREATE VIEW usage_measures WITH (security_invoker = true) AS
SELECT e.tenant_id, e.request_id, e.attempt, e.state, e.started_at,
       (e.operation = 'query' AND e.attempt = 1 AND o.counted)::int AS queries,
       (e.operation = 'query' AND o.ok)::int AS answered_queries,
       CASE WHEN e.operation = 'query' AND o.ok
            THEN coalesce(round(e.request_latency_ms::float8 * 1000), 0)::bigint
            ELSE 0 END AS answered_latency_us,
       (e.attempt = 1 AND o.counted)::int AS requests,
       o.ok::int AS successful_requests,
       e.input_tokens, e.output_tokens, e.cost_micro_usd,
       e.unpriced::int AS unpriced, e.estimated::int AS estimated,
       coalesce(e.provider = 'cache', false)::int AS cache_hits
FROM usage_events e,
     LATERAL (SELECT e.final AND e.state = 'settled' AND coalesce(e.outcome IN
              ('answered', 'partial', 'no_evidence', 'conflicting_evidence', 'ok'), false) AS ok,
             -- What was refused after admission (a 4xx) is no request.
             NOT (e.state = 'released' AND coalesce(e.outcome, '') IN
                  ('invalid_request', 'limit_reached', 'budget_exhausted', 'conflict'))
             AS counted) o;

-- Adds a closed row to its hour, or takes it out again (p_sign -1).
CREATE FUNCTION count_in_hour(p_tenant text, p_request uuid, p_attempt integer, p_sign integer)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage_hours AS h
    SELECT m.tenant_id, date_trunc('hour', m.started_at, 'UTC'), p_sign * m.queries,
           p_sign * m.answered_queries, p_sign * m.answered_latency_us, p_sign * m.requests,
           p_sign * m.successful_requests, p_sign * m.input_tokens, p_sign * m.output_tokens,
           p_sign * m.cost_micro_usd, p_sign * m.unpriced, p_sign * m.estimated,
           p_sign * m.cache_hits
    FROM usage_measures m
    WHERE m.tenant_id = p_tenant AND m.request_id = p_request AND m.attempt = p_attempt
      AND m.state <> 'reserved'
    ON CONFLICT (tenant_id, hour) DO UPDATE SET
        queries = h.queries + excluded.queries,
        answered_queries = h.answered_queries + excluded.answered_queries,
        answered_latency_us = h.answered_latency_us + excluded.answered_latency_us,
        requests = h.requests + excluded.requests,
        successful_requests = h.successful_requests + excluded.successful_requests,
        input_tokens = h.input_tokens + excluded.input_tokens,
        output_tokens = h.output_tokens + excluded.output_tokens,
        cost_micro_usd = h.cost_micro_usd + excluded.cost_micro_usd,
        unpriced = h.unpriced + excluded.unpriced,
        estimated = h.estimated + excluded.estimated,
        cache_hits = h.cache_hits + excluded.cache_hits;
END
$$;

-- Settles an attempt exactly once; false when it was settled before. An attempt that the sweep
-- closed because its lease was over is settled when a proof (journal, provider export) arrives
-- later. `uncounted`: the request was refused after admission (a 4xx); it uses up no rate and
-- gives its Idempotency-Key back.
CREATE FUNCTION settle(p_tenant text, s settlement)
RETURNS boolean LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_old usage_events;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    SELECT * INTO v_old FROM usage_events e
    WHERE e.tenant_id = p_tenant AND e.request_id = s.request_id AND e.attempt = s.attempt
      AND (e.state IN ('reserved', 'interrupted') OR e.outcome = 'interrupted')
    FOR UPDATE;
    IF NOT FOUND THEN RETURN false; END IF;
    IF s.uncounted THEN
        PERFORM count_in_windows(p_tenant, v_old.operation, v_old.started_at, -1);
    END IF;
    IF v_old.state <> 'reserved' THEN
        PERFORM count_in_hour(p_tenant, s.request_id, s.attempt, -1);
        v_old.reserved_micro_usd := 0;  -- it is no longer held
    END IF;
    UPDATE usage_events e SET
        state = s.state, final = s.final,
        provider = CASE WHEN s.state = 'released' THEN NULL
                        ELSE coalesce(s.provider, e.provider) END,
        model = coalesce(s.model, e.model), provider_model = s.provider_model,
        provider_response_id = s.provider_response_id, input_tokens = s.input_tokens,
        output_tokens = s.output_tokens, cached_input_tokens = s.cached_input_tokens,
        cost_micro_usd = s.cost_micro_usd, unpriced = s.unpriced, estimated = s.estimated,
        outcome = s.outcome, latency_ms = s.latency_ms,
        request_latency_ms = s.request_latency_ms, settled_at = clock_timestamp()
    WHERE e.tenant_id = p_tenant AND e.request_id = s.request_id AND e.attempt = s.attempt;
    PERFORM count_in_hour(p_tenant, s.request_id, s.attempt, 1);
    IF v_old.reserved_micro_usd <> 0 OR s.cost_micro_usd <> v_old.cost_micro_usd THEN
        PERFORM hold_money(p_tenant, v_old.started_at, -v_old.reserved_micro_usd,
                           s.cost_micro_usd - v_old.cost_micro_usd);
    END IF;
    IF s.uncounted THEN
        DELETE FROM idempotency_keys k
        WHERE k.tenant_id = p_tenant AND k.request_id = s.request_id AND NOT k.finished;
    ELSIF s.reply IS NOT NULL THEN
        PERFORM keep_reply(p_tenant, s, v_old.operation);
    END IF;
    RETURN true;
END
$$;

-- Admission of a question whose answer is at hand (`s`): settled by the same statement when the corpus
-- still has the version that the answer was made from, otherwise admitted like any other.
CREATE FUNCTION admit_ready(p_tenant text, r admission_request, p_corpus_version bigint,
                            s settlement)
RETURNS admission_reply LANGUAGE plpgsql AS $$
DECLARE
    a admission_reply;
BEGIN
    a := admit(p_tenant, r);
    IF a.verdict = 'admitted' AND a.corpus_version = p_corpus_version THEN
        PERFORM settle(p_tenant, s);
        a.verdict := 'settled';
    END IF;
    RETURN a;
END
$$;
