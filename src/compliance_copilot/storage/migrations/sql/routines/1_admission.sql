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

-- The windows of a tenant as they are at an instant: what has left them is no longer in the sums. A
-- bucket counts until all of it has left, so never fewer than really happened. A clock that was set
-- back turns nothing: what comes is counted in the last bucket until the clock is there again.
CREATE FUNCTION turned(INOUT w admission_windows, p_at timestamptz)
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_second bigint := floor(date_part('epoch', p_at));
    v_minute bigint;
    v_slot integer;
BEGIN
    IF v_second <= w.second THEN RETURN; END IF;
    IF v_second > w.second + 60 THEN
        w.second := v_second; w.in_minute := 0; w.seconds := array_fill(0, '{61}');
    END IF;
    WHILE w.second < v_second LOOP
        w.second := w.second + 1;
        v_slot := w.second % 61 + 1;
        w.in_minute := w.in_minute - w.seconds[v_slot];
        w.seconds[v_slot] := 0;
    END LOOP;
    v_minute := v_second / 60;
    IF v_minute <= w.minute THEN RETURN; END IF;
    IF v_minute > w.minute + 60 THEN
        w.minute := v_minute; w.in_hour := 0; w.minutes := array_fill(0, '{61}');
        w.oldest := v_minute;
    END IF;
    WHILE w.minute < v_minute LOOP
        w.minute := w.minute + 1;
        v_slot := w.minute % 61 + 1;
        w.in_hour := w.in_hour - w.minutes[v_slot];
        w.minutes[v_slot] := 0;
    END LOOP;
    w.oldest := greatest(w.oldest, w.minute - 60);
    WHILE w.oldest < w.minute AND w.minutes[w.oldest % 61 + 1] = 0 LOOP
        w.oldest := w.oldest + 1;
    END LOOP;
END
$$;

-- Counts a request (p_step 1) or takes it out again, where its bucket still is: every one in its
-- second, questions and searches in their minute too.
CREATE FUNCTION counted(INOUT w admission_windows, p_operation text, p_second bigint,
                        p_step integer)
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_second integer := p_second % 61 + 1;
    v_minute integer := p_second / 60 % 61 + 1;
BEGIN
    IF p_second >= w.second - 60 THEN
        w.in_minute := w.in_minute + p_step;
        w.seconds[v_second] := w.seconds[v_second] + p_step;
    END IF;
    IF p_operation <> 'ingest' AND p_second / 60 >= w.minute - 60 THEN
        w.in_hour := w.in_hour + p_step;
        w.minutes[v_minute] := w.minutes[v_minute] + p_step;
    END IF;
END
$$;

CREATE FUNCTION store_windows(w admission_windows)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE admission_windows o
    SET second = w.second, in_minute = w.in_minute, seconds = w.seconds,
        minute = w.minute, in_hour = w.in_hour, minutes = w.minutes, oldest = w.oldest
    WHERE o.tenant_id = w.tenant_id;
    IF NOT FOUND THEN
        INSERT INTO admission_windows SELECT w.*;
    END IF;
END
$$;

CREATE FUNCTION no_windows(p_tenant text)
RETURNS admission_windows LANGUAGE sql IMMUTABLE AS $$
    SELECT ROW(p_tenant, 0, 0, array_fill(0, '{61}'), 0, 0, array_fill(0, '{61}'), 0)
           ::admission_windows
$$;

-- Takes a refused request out again; who moves windows holds the lock on the tenant's row.
CREATE FUNCTION uncount(p_tenant text, p_operation text, p_at timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    w admission_windows;
BEGIN
    SELECT * INTO w FROM admission_windows o WHERE o.tenant_id = p_tenant;
    IF FOUND THEN
        PERFORM store_windows(counted(
            w, p_operation, floor(date_part('epoch', p_at))::bigint, -1));
    END IF;
END
$$;

-- Seconds until a rolling window has room again, 0 when it has.
CREATE FUNCTION window_state(p_tenant text, p_width integer, p_window integer, p_limit integer,
                             p_now timestamptz, OUT admitted bigint, OUT retry_after real,
                             OUT reset_after real)
LANGUAGE plpgsql AS $$
DECLARE
    w admission_windows;
    v_last bigint;
    v_slots integer[];
    v_now float8 := date_part('epoch', p_now);
BEGIN
    SELECT * INTO w FROM admission_windows o WHERE o.tenant_id = p_tenant;
    w := turned(w, p_now);
    v_last := CASE p_width WHEN 1 THEN w.second ELSE w.minute END;
    v_slots := CASE p_width WHEN 1 THEN w.seconds ELSE w.minutes END;
    -- reset_after: when the oldest that is counted leaves, which is when room comes back.
    -- retry_after: the same of the bucket whose leaving makes room; the oldest leave first.
    SELECT coalesce(sum(b.admitted), 0), min(b.leaves_after),
           min(b.leaves_after) FILTER (WHERE b.still_in < p_limit)
    INTO admitted, reset_after, retry_after
    FROM (SELECT v_slots[n % 61 + 1] AS admitted, n * p_width - v_now + p_window + p_width
                 AS leaves_after,
                 coalesce(sum(v_slots[n % 61 + 1]) OVER (ORDER BY n DESC
                     ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS still_in
          FROM generate_series(v_last - 60, v_last) n) b
    WHERE b.admitted <> 0;
    reset_after := coalesce(reset_after, p_window + p_width);
    retry_after := CASE WHEN admitted >= p_limit THEN coalesce(retry_after, p_window) ELSE 0 END;
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
RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN r.key_hash IS NOT NULL AND v.key_id IS NULL THEN 'unauthenticated'
                WHEN r.key_hash IS NOT NULL AND NOT r.scope = ANY (v.scopes) THEN 'forbidden'
                WHEN v.status IS NULL OR v.status = 'deleted' THEN 'unknown_tenant'
                WHEN v.status <> 'active' THEN 'suspended' END
$$;

-- An Idempotency-Key names one request for ever. A run that ended without a reply (its process
-- died, or it failed) is taken over by a repeat of the same body; a refused one (4xx) has given
-- its key back altogether.
CREATE FUNCTION claim_idempotency(p_tenant text, r admission_request, INOUT a admission_reply)
LANGUAGE plpgsql AS $$
DECLARE
    v_request uuid;
    v_body_hash bytea;
    v_finished boolean;
    v_reply json;
    v_running boolean;
BEGIN
    -- One look at all three: a settlement changes them together, and may come between two looks.
    SELECT k.request_id, k.body_hash, k.finished,
           (SELECT p.reply FROM replies p
            WHERE p.tenant_id = p_tenant AND p.request_id = k.request_id
              AND p.expires_at > clock_timestamp()),
           EXISTS (SELECT FROM usage_events e
                   WHERE e.tenant_id = p_tenant AND e.request_id = k.request_id
                     AND e.state = 'reserved' AND e.lease_expires_at > clock_timestamp())
    INTO v_request, v_body_hash, v_finished, v_reply, v_running FROM idempotency_keys k
    WHERE k.tenant_id = p_tenant AND k.operation = r.operation AND k.key = r.idempotency_key;
    IF NOT FOUND THEN RETURN; END IF;
    a.original_request_id := v_request;
    IF v_body_hash <> r.body_hash THEN
        a.verdict := 'idempotency_mismatch';
    ELSIF v_finished THEN
        a.reply := v_reply;
        a.verdict := CASE WHEN v_reply IS NULL THEN 'gone' ELSE 'replay' END;
    ELSIF v_running THEN
        a.verdict := 'running';
        a.retry_after := 1;
    END IF;
END
$$;

-- What admission counts of its tenant at one look, after the lock.
CREATE TYPE admission_counts AS (windows admission_windows, running bigint);

-- What a refusal has to tell is asked only then.
CREATE FUNCTION check_limits(p_tenant text, r admission_request, p_now timestamptz,
                             w admission_windows, p_running bigint, INOUT a admission_reply)
LANGUAGE plpgsql AS $$
BEGIN
    IF w.in_minute >= r.requests_per_minute THEN
        a.verdict := 'requests_per_minute'; a.quota := r.requests_per_minute; a.remaining := 0;
        SELECT s.retry_after INTO a.retry_after
        FROM window_state(p_tenant, 1, 60, r.requests_per_minute, p_now) s;
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
        a.quota := r.queries_per_hour; a.remaining := r.queries_per_hour - w.in_hour - 1;
        a.reset_after := 3660;
        IF w.in_hour > 0 THEN
            a.reset_after := a.reset_after + w.oldest * 60 - date_part('epoch', p_now);
        END IF;
        IF w.in_hour >= r.queries_per_hour THEN
            a.verdict := 'queries_per_hour'; a.remaining := 0;
            SELECT s.retry_after INTO a.retry_after
            FROM window_state(p_tenant, 60, 3600, r.queries_per_hour, p_now) s;
            RETURN;
        END IF;
    END IF;
    IF p_running >= r.concurrent THEN
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

CREATE TYPE settlement AS (
    request_id uuid, attempt integer, state text, final boolean, provider text, model text,
    provider_model text, provider_response_id text, input_tokens integer, output_tokens integer,
    cached_input_tokens integer, cost_micro_usd bigint, unpriced boolean, estimated boolean,
    outcome text, latency_ms real, request_latency_ms real, uncounted boolean, reply json,
    content_hash text, documents text[], retention_days integer);

-- What a row of the ledger adds to the sums over time: the one definition, for single rows and for
-- rebuilding.
CREATE FUNCTION measures(e usage_events)
RETURNS TABLE (queries integer, answered_queries integer, answered_latency_us bigint,
               requests integer, successful_requests integer, unpriced integer,
               estimated integer, cache_hits integer) LANGUAGE sql IMMUTABLE AS $$
    SELECT (e.operation = 'query' AND e.attempt = 1 AND o.counted)::int,
           (e.operation = 'query' AND o.ok)::int,
           CASE WHEN e.operation = 'query' AND o.ok
                THEN coalesce(round(e.request_latency_ms::float8 * 1000), 0)::bigint
                ELSE 0 END,
           (e.attempt = 1 AND o.counted)::int, o.ok::int, e.unpriced::int, e.estimated::int,
           coalesce(e.provider = 'cache', false)::int
    FROM (SELECT e.final AND e.state = 'settled' AND coalesce(e.outcome IN
                 ('answered', 'partial', 'no_evidence', 'conflicting_evidence', 'ok'), false) AS ok,
                 -- What was refused after admission (a 4xx) is no request.
                 NOT (e.state = 'released' AND coalesce(e.outcome, '') IN
                      ('invalid_request', 'limit_reached', 'budget_exhausted', 'conflict'))
                 AS counted) o
$$;

CREATE VIEW usage_measures WITH (security_invoker = true) AS
SELECT e.tenant_id, e.request_id, e.attempt, e.state, e.started_at,
       m.queries, m.answered_queries, m.answered_latency_us, m.requests, m.successful_requests,
       e.input_tokens, e.output_tokens, e.cost_micro_usd, m.unpriced, m.estimated, m.cache_hits
FROM usage_events e, LATERAL measures(e) m;

-- Adds a closed row to its hour, or takes it out again (p_sign -1). The hour's row is there but for
-- its first time, so it is looked for before it is made.
CREATE FUNCTION count_in_hour(e usage_events, p_sign integer)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        UPDATE usage_hours h SET
            queries = h.queries + p_sign * m.queries,
            answered_queries = h.answered_queries + p_sign * m.answered_queries,
            answered_latency_us = h.answered_latency_us + p_sign * m.answered_latency_us,
            requests = h.requests + p_sign * m.requests,
            successful_requests = h.successful_requests + p_sign * m.successful_requests,
            input_tokens = h.input_tokens + p_sign * e.input_tokens,
            output_tokens = h.output_tokens + p_sign * e.output_tokens,
            cost_micro_usd = h.cost_micro_usd + p_sign * e.cost_micro_usd,
            unpriced = h.unpriced + p_sign * m.unpriced,
            estimated = h.estimated + p_sign * m.estimated,
            cache_hits = h.cache_hits + p_sign * m.cache_hits
        FROM measures(e) m
        WHERE h.tenant_id = e.tenant_id AND h.hour = date_trunc('hour', e.started_at, 'UTC');
        EXIT WHEN FOUND;
        INSERT INTO usage_hours (tenant_id, hour)
        VALUES (e.tenant_id, date_trunc('hour', e.started_at, 'UTC')) ON CONFLICT DO NOTHING;
    END LOOP;
END
$$;

-- What a row that is closed now adds to its hour and its month; `p_held` is held no longer.
CREATE FUNCTION count_closed(e usage_events, p_held bigint, p_known_cost bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM count_in_hour(e, 1);
    IF p_held <> 0 OR e.cost_micro_usd <> p_known_cost THEN
        PERFORM hold_money(e.tenant_id, e.started_at, -p_held, e.cost_micro_usd - p_known_cost);
    END IF;
END
$$;

-- The row that a request leaves in the ledger before anything is done for it.
CREATE FUNCTION intent(p_tenant text, r admission_request, p_key uuid, p_attempt integer,
                       p_at timestamptz) RETURNS usage_events
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    e usage_events;
BEGIN
    e.tenant_id := p_tenant; e.request_id := r.request_id; e.attempt := p_attempt;
    e.operation := r.operation; e.key_id := p_key::text;
    e.state := 'reserved'; e.final := false; e.estimated := false; e.unpriced := r.unpriced;
    e.provider := r.provider; e.model := r.model; e.price_version := r.price_version;
    e.input_tokens := 0; e.output_tokens := 0; e.cached_input_tokens := 0;
    e.reserved_micro_usd := r.reserved_micro_usd; e.cost_micro_usd := 0;
    e.started_at := p_at; e.lease_expires_at := p_at + make_interval(secs => r.lease_seconds);
    RETURN e;
END
$$;

-- That row as a settlement leaves it.
CREATE FUNCTION settled(INOUT e usage_events, s settlement)
LANGUAGE plpgsql AS $$
BEGIN
    e.state := s.state; e.final := s.final; e.outcome := s.outcome;
    e.provider := CASE WHEN s.state = 'released' THEN NULL
                       ELSE coalesce(s.provider, e.provider) END;
    e.model := coalesce(s.model, e.model); e.provider_model := s.provider_model;
    e.provider_response_id := s.provider_response_id;
    e.input_tokens := s.input_tokens; e.output_tokens := s.output_tokens;
    e.cached_input_tokens := s.cached_input_tokens; e.cost_micro_usd := s.cost_micro_usd;
    e.unpriced := s.unpriced; e.estimated := s.estimated;
    e.latency_ms := s.latency_ms; e.request_latency_ms := s.request_latency_ms;
    e.settled_at := clock_timestamp();
END
$$;

-- Design section 6, step 2: who, which configuration, every limit, the reservation and the
-- intent row, in one atomic round trip. Admissions of one tenant queue at its row; those of
-- different tenants do not meet. Generic plans: with auto, statements on recent instants look so much
-- cheaper with their values known that they are planned anew each time, for longer than they run.
--
-- A request whose answer is at hand (`s`) is settled by the same statement, its row written once, when
-- the corpus still has the version that the answer was made from; otherwise it is admitted like any
-- other.
CREATE FUNCTION admit_ready(p_tenant text, r admission_request, p_corpus_version bigint,
                            s settlement)
RETURNS admission_reply LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    a admission_reply;
    v admission_sight;
    v_counts admission_counts;
    v_windows admission_windows;
    v_row usage_events;
    v_now timestamptz;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    SELECT t.status, o.version + t.version, coalesce(c.version, 0), c.next_change_at,
           k.id, k.scopes, k.last_used_at INTO v
    FROM tenants t CROSS JOIN system_state o
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
    SELECT (SELECT w FROM admission_windows w WHERE w.tenant_id = p_tenant),
           CASE WHEN r.concurrent IS NOT NULL THEN
               (SELECT count(DISTINCT o.request_id) FROM usage_events o
                WHERE o.tenant_id = p_tenant AND o.state = 'reserved'
                  AND o.lease_expires_at > v_now) END
    INTO v_counts;
    v_windows := turned(coalesce(v_counts.windows, no_windows(p_tenant)), v_now);
    a := check_limits(p_tenant, r, v_now, v_windows, v_counts.running, a);
    IF a.verdict IS NOT NULL THEN RETURN a; END IF;

    a.attempt := 1;
    IF r.continues THEN
        SELECT coalesce(max(o.attempt), 0) + 1 INTO a.attempt FROM usage_events o
        WHERE o.tenant_id = p_tenant AND o.request_id = r.request_id;
    END IF;
    v_row := intent(p_tenant, r, v.key_id, a.attempt, v_now);
    a.verdict := 'admitted';
    IF a.corpus_version = p_corpus_version THEN
        v_row := settled(v_row, s);
        a.verdict := 'settled';
    END IF;
    INSERT INTO usage_events SELECT v_row.*;
    IF NOT r.continues THEN  -- what continues (a job's batches) was counted with its first attempt
        PERFORM store_windows(counted(v_windows, r.operation, v_windows.second, 1));
    END IF;
    IF a.verdict = 'settled' THEN
        PERFORM count_closed(v_row, 0, 0);
    ELSIF r.reserved_micro_usd <> 0 THEN
        PERFORM hold_money(p_tenant, v_now, r.reserved_micro_usd, 0);
    END IF;
    IF r.idempotency_key IS NOT NULL THEN
        INSERT INTO idempotency_keys (tenant_id, operation, key, body_hash, request_id)
        VALUES (p_tenant, r.operation, r.idempotency_key, r.body_hash, r.request_id)
        ON CONFLICT (tenant_id, operation, key)
        DO UPDATE SET request_id = excluded.request_id, created_at = now();
    END IF;
    IF a.verdict = 'settled' AND s.reply IS NOT NULL THEN
        PERFORM keep_reply(p_tenant, s, r.operation, r.idempotency_key IS NOT NULL);
    END IF;
    IF v.key_id IS NOT NULL
       AND (v.key_used_at IS NULL OR v.key_used_at < v_now - interval '1 minute') THEN
        UPDATE api_keys k SET last_used_at = v_now
        WHERE k.tenant_id = p_tenant AND k.id = v.key_id;
    END IF;
    RETURN a;
END
$$;

CREATE FUNCTION admit(p_tenant text, r admission_request)
RETURNS admission_reply LANGUAGE plpgsql AS $$
BEGIN
    RETURN admit_ready(p_tenant, r, NULL, NULL);
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
    v_new usage_events;
    v_held bigint;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    IF s.uncounted THEN
        PERFORM FROM tenants t WHERE t.tenant_id = p_tenant FOR NO KEY UPDATE;
    END IF;
    SELECT * INTO v_old FROM usage_events e
    WHERE e.tenant_id = p_tenant AND e.request_id = s.request_id AND e.attempt = s.attempt
      AND (e.state IN ('reserved', 'interrupted') OR e.outcome = 'interrupted')
    FOR UPDATE;
    IF NOT FOUND THEN RETURN false; END IF;
    IF s.uncounted THEN
        PERFORM uncount(p_tenant, v_old.operation, v_old.started_at);
    END IF;
    v_held := v_old.reserved_micro_usd;
    IF v_old.state <> 'reserved' THEN
        PERFORM count_in_hour(v_old, -1);
        v_held := 0;  -- it is no longer held
    END IF;
    v_new := settled(v_old, s);
    UPDATE usage_events e SET
        state = v_new.state, final = v_new.final, provider = v_new.provider, model = v_new.model,
        provider_model = v_new.provider_model, provider_response_id = v_new.provider_response_id,
        input_tokens = v_new.input_tokens, output_tokens = v_new.output_tokens,
        cached_input_tokens = v_new.cached_input_tokens, cost_micro_usd = v_new.cost_micro_usd,
        unpriced = v_new.unpriced, estimated = v_new.estimated, outcome = v_new.outcome,
        latency_ms = v_new.latency_ms, request_latency_ms = v_new.request_latency_ms,
        settled_at = v_new.settled_at
    WHERE e.tenant_id = p_tenant AND e.request_id = s.request_id AND e.attempt = s.attempt;
    PERFORM count_closed(v_new, v_held, v_old.cost_micro_usd);
    IF s.uncounted THEN
        DELETE FROM idempotency_keys k
        WHERE k.tenant_id = p_tenant AND k.request_id = s.request_id AND NOT k.finished;
    ELSIF s.reply IS NOT NULL THEN
        PERFORM keep_reply(p_tenant, s, v_old.operation, true);
    END IF;
    RETURN true;
END
$$;
