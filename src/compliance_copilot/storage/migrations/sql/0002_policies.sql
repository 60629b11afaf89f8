-- Who presents a key's hash may read that key's row: the look-up that tells the tenant.
CREATE POLICY by_presented_hash ON api_keys FOR SELECT
    USING (key_hash = decode(nullif((SELECT current_setting('app.key_hash', true)), ''), 'hex'));
