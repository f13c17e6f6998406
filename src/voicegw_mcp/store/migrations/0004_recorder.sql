-- What agent processes could not record, per process and reason: they have no other way to tell the server.
CREATE TABLE lost (
    recorder TEXT NOT NULL,
    reason   TEXT NOT NULL,
    host     TEXT NOT NULL,
    pid      BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    first_ms BIGINT NOT NULL,
    last_ms  BIGINT NOT NULL,
    PRIMARY KEY (recorder, reason)
) WITHOUT ROWID;
