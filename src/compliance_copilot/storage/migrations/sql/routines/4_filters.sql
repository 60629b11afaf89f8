-- Conditions on documents, as a tree of JSON (`adapters/filter_forms.py` makes it, `rag/filters.py`
-- says what it means). Data all the way: no text of a caller ever becomes part of a statement.

-- A metadata value as filters see it: text, number, truth value, or the texts of a list.
CREATE FUNCTION filter_visible(p_value jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE jsonb_typeof(p_value)
        WHEN 'string' THEN p_value
        WHEN 'number' THEN p_value
        WHEN 'boolean' THEN p_value
        WHEN 'array' THEN (SELECT jsonb_agg(e) FROM jsonb_array_elements(p_value) e
                           WHERE jsonb_typeof(e) = 'string')
    END
$$;

CREATE FUNCTION filter_microseconds(p_at timestamptz) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT to_jsonb((extract(epoch FROM p_at) * 1000000)::bigint)
$$;

CREATE FUNCTION filter_compares(p_operator text, p_value jsonb, p_values jsonb)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_found boolean;
    v_one numeric;
    v_other numeric;
BEGIN
    IF p_operator IN ('eq', 'in', 'ne', 'nin') THEN
        v_found := EXISTS (
            SELECT FROM jsonb_array_elements(p_values) w
            WHERE w = p_value OR (jsonb_typeof(p_value) = 'array' AND p_value @> jsonb_build_array(w)));
        RETURN v_found = (p_operator IN ('eq', 'in'));
    END IF;
    IF jsonb_typeof(p_value) <> 'number' OR jsonb_typeof(p_values -> 0) <> 'number' THEN
        RETURN false;
    END IF;
    v_one := (p_value #>> '{}')::numeric;
    v_other := (p_values ->> 0)::numeric;
    RETURN CASE p_operator
        WHEN 'gt' THEN v_one > v_other WHEN 'gte' THEN v_one >= v_other
        WHEN 'lt' THEN v_one < v_other WHEN 'lte' THEN v_one <= v_other END;
END
$$;

CREATE FUNCTION filter_holds(p_filter jsonb, p_document text, p_effective timestamptz,
                             p_created timestamptz, p_metadata jsonb)
RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_operator text := p_filter ->> 'op';
    v_value jsonb;
    v_part jsonb;
BEGIN
    IF v_operator IN ('all', 'any') THEN
        FOR v_part IN SELECT e FROM jsonb_array_elements(p_filter -> 'parts') e LOOP
            IF filter_holds(v_part, p_document, p_effective, p_created, p_metadata)
               = (v_operator = 'any') THEN
                RETURN v_operator = 'any';
            END IF;
        END LOOP;
        RETURN v_operator = 'all';
    END IF;
    v_value := CASE p_filter ->> 'place'
        WHEN 'document_id' THEN to_jsonb(p_document)
        WHEN 'effective_from' THEN filter_microseconds(p_effective)
        WHEN 'created_at' THEN filter_microseconds(p_created)
        ELSE filter_visible(p_metadata -> (p_filter ->> 'name')) END;
    IF v_operator = 'exists' THEN
        RETURN (v_value IS NOT NULL) = (p_filter -> 'present')::boolean;
    END IF;
    RETURN v_value IS NOT NULL AND filter_compares(v_operator, v_value, p_filter -> 'values');
END
$$;
