-- Conversations: what was asked last, and what is asked now.

-- The last question, as it stands alone; NULL at the start of a conversation.
CREATE FUNCTION last_question(p_tenant text, p_conversation text)
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    RETURN (SELECT c.standalone FROM conversation_turns c
            WHERE c.tenant_id = p_tenant AND c.conversation_id = p_conversation
              AND c.expires_at > clock_timestamp()
            ORDER BY c.created_at DESC, c.request_id DESC LIMIT 1);
END
$$;

-- Notes a question; the newest `p_most` of a conversation stay.
CREATE FUNCTION note_question(p_tenant text, p_conversation text, p_request uuid, p_question text,
                              p_standalone text, p_days integer, p_most integer)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    INSERT INTO conversation_turns (tenant_id, conversation_id, request_id, question, standalone,
                                    expires_at)
    VALUES (p_tenant, p_conversation, p_request, p_question, p_standalone,
            clock_timestamp() + make_interval(days => p_days))
    ON CONFLICT DO NOTHING;
    DELETE FROM conversation_turns c
    WHERE c.tenant_id = p_tenant AND c.conversation_id = p_conversation AND c.request_id IN (
        SELECT o.request_id FROM conversation_turns o
        WHERE o.tenant_id = p_tenant AND o.conversation_id = p_conversation
        ORDER BY o.created_at DESC, o.request_id DESC OFFSET p_most);
END
$$;

-- Takes a whole conversation; returns how many questions it had.
CREATE FUNCTION forget_conversation(p_tenant text, p_conversation text)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_taken integer;
BEGIN
    PERFORM set_config('app.tenant_id', p_tenant, true);
    DELETE FROM conversation_turns c
    WHERE c.tenant_id = p_tenant AND c.conversation_id = p_conversation;
    GET DIAGNOSTICS v_taken = ROW_COUNT;
    RETURN v_taken;
END
$$;
