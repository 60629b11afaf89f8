"""What the service tells about itself: spans, metrics, log lines. It never decides anything.

Ambient on purpose: whoever works calls `span()` or a metric and need not be handed anything. Off,
a span costs a function call. Must not enter: settings, SQL, HTTP, texts of questions and documents
(unless the operator has switched the content of traces on).
"""
