-- Which change left the file at a version, and which one took another back.
CREATE INDEX changes_by_version ON changes (version_after);
CREATE INDEX changes_undoing ON changes (undoes) WHERE undoes IS NOT NULL;
