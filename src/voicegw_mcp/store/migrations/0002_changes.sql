-- Which change took another one back. Few rows have it, and each index costs every change a page to be synced.
CREATE INDEX changes_undoing ON changes (undoes) WHERE undoes IS NOT NULL;
