-- What is over a threshold now: each crossing is told of once, whichever process sees it first. That of a budget is over with
-- its day (ends_ms), that of a rate when it has fallen again.
CREATE TABLE alert_state (
    rule     TEXT NOT NULL,
    subject  TEXT NOT NULL,
    mark     TEXT NOT NULL,
    alert_id TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    ends_ms  BIGINT,
    PRIMARY KEY (rule, subject, mark)
) WITHOUT ROWID;

-- What was told, written in the transaction that changes the state: a process that dies has not forgotten what is to be sent.
CREATE TABLE alerts (
    id         TEXT PRIMARY KEY,
    created_ms BIGINT NOT NULL,
    event      TEXT NOT NULL,
    rule       TEXT NOT NULL,
    subject    TEXT NOT NULL,
    project    TEXT NOT NULL,
    message    TEXT NOT NULL,
    body       TEXT NOT NULL,
    delivery   TEXT NOT NULL,
    attempts   BIGINT NOT NULL,
    due_ms     BIGINT NOT NULL,
    outcome    TEXT NOT NULL
);
CREATE INDEX alerts_pending ON alerts (due_ms) WHERE delivery = 'pending';
