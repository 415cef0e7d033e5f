-- Sessions in which a turn has begun and not ended: as many as these, and no more, are looked at to find them. The column
-- follows from the summary, so that nodes of the release before keep it too; it changes only when a turn begins or
-- ends, so that all other writes leave the indexes alone.
ALTER TABLE everstate.session ADD COLUMN under_way boolean GENERATED ALWAYS AS
    (summary IS NOT NULL AND left(summary, 15) <> '{"state":"idle"' AND left(summary, 15) <> '{"state":"parke') STORED;
CREATE INDEX session_under_way ON everstate.session (project, created_at, session) WHERE under_way;
