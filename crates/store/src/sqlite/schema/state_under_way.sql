-- Sessions in which a turn has begun and not ended: as many as these, and no more, are looked at to find them.
CREATE INDEX IF NOT EXISTS session_under_way ON session (project, created_at, session)
    WHERE project IS NOT NULL AND substr(summary, 1, 15) <> '{"state":"idle"'
    AND substr(summary, 1, 15) <> '{"state":"parke';
