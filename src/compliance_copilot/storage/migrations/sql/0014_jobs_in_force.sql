-- From when the documents of a job are in force; NULL: from when they are stored.

ALTER TABLE ingest_jobs ADD COLUMN effective_from timestamptz;
