-- The rolling windows of a tenant in one row instead of one for each second and each minute: rows of
-- a hundred tenants lay mixed on the pages, so an admission read some 55 pages to add up one minute.

ALTER TABLE admission_windows RENAME TO admission_buckets;
ALTER INDEX admission_windows_pkey RENAME TO admission_buckets_pkey;

CREATE TABLE admission_windows (
    tenant_id text PRIMARY KEY REFERENCES tenants,
    second    bigint NOT NULL,
    in_minute integer NOT NULL,
    seconds   integer[] NOT NULL,
    minute    bigint NOT NULL,
    in_hour   integer NOT NULL,
    minutes   integer[] NOT NULL,
    oldest    bigint NOT NULL
) WITH (fillfactor = 30);
COMMENT ON TABLE admission_windows IS
    'Rolling windows as sums: minutes for the hourly limit on questions, seconds for the limit on '
    'requests a minute. Moved by admission, under the lock on the row in tenants.';
COMMENT ON COLUMN admission_windows.seconds IS
    'A ring: what was admitted in second n since 1970 is slot n % 61 + 1, for the 61 seconds up to '
    '`second`, the last one; `in_minute` is their sum. So are minutes, minute and in_hour.';
COMMENT ON COLUMN admission_windows.oldest IS 'No minute before this one has anything in it.';

DO $$
DECLARE
    v_tenant text;
    v_second bigint := floor(extract(epoch FROM clock_timestamp()));
BEGIN
    FOR v_tenant IN SELECT d.id FROM tenant_directory d LOOP
        PERFORM set_config('app.tenant_id', v_tenant, true);
        INSERT INTO admission_windows
        SELECT v_tenant, v_second, s.total, s.slots, v_second / 60, m.total, m.slots,
               v_second / 60 - 60
        FROM (SELECT coalesce(sum(b.admitted), 0) AS total,
                     array_agg(coalesce(b.admitted, 0) ORDER BY n % 61) AS slots
              FROM generate_series(v_second - 60, v_second) n
              LEFT JOIN admission_buckets b ON b.tenant_id = v_tenant AND b.width_seconds = 1
                                           AND b.starts_at = to_timestamp(n)) s,
             (SELECT coalesce(sum(b.admitted), 0) AS total,
                     array_agg(coalesce(b.admitted, 0) ORDER BY n % 61) AS slots
              FROM generate_series(v_second / 60 - 60, v_second / 60) n
              LEFT JOIN admission_buckets b ON b.tenant_id = v_tenant AND b.width_seconds = 60
                                           AND b.starts_at = to_timestamp(n * 60)) m
        WHERE s.total <> 0 OR m.total <> 0;
    END LOOP;
    PERFORM set_config('app.tenant_id', '', true);
END
$$;
DROP TABLE admission_buckets;
