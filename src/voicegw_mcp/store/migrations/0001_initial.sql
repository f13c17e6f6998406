-- The first schema. Written to be portable: TEXT, BIGINT, DOUBLE PRECISION, ids made by the program.
-- (INTEGER PRIMARY KEY in requests is SQLite's way to store the row under that number; elsewhere it is BIGINT.)

-- One row per combination ever seen. The log and the rollups carry its number: small rows, small indexes.
CREATE TABLE series (
    series_id BIGINT PRIMARY KEY,
    project   TEXT NOT NULL,
    modality  TEXT NOT NULL,
    provider  TEXT NOT NULL,
    model_id  TEXT NOT NULL,
    UNIQUE (project, modality, provider, model_id)
);

-- Where a price came from and its date; also shared by nearly all rows.
CREATE TABLE price (
    price_id BIGINT PRIMARY KEY,
    source   TEXT NOT NULL,
    dated    TEXT NOT NULL,
    UNIQUE (source, dated)
);

-- The request log. Pages are keyed by (timestamp_ms, seq): seq counts the rows in the order they came in.
CREATE TABLE requests (
    seq           INTEGER PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    timestamp_ms  BIGINT NOT NULL,
    series_id     BIGINT NOT NULL,
    status        TEXT NOT NULL,
    session_id    TEXT,
    audio_ms      BIGINT NOT NULL,
    input_tokens  BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    characters    BIGINT NOT NULL,
    cost_nanousd  BIGINT,
    price_id      BIGINT NOT NULL,
    ttfb_us       BIGINT,
    total_us      BIGINT,
    error_kind    TEXT,
    error_message TEXT,
    fallback_from TEXT,
    estimated     BIGINT NOT NULL
);

-- seq is the implicit last column of each of these, so pages come out in order without a sort.
CREATE INDEX requests_by_time ON requests (timestamp_ms);
CREATE INDEX requests_by_series ON requests (series_id, timestamp_ms);
CREATE INDEX requests_by_session ON requests (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX requests_rare_by_time ON requests (status, timestamp_ms) WHERE status <> 'success';
CREATE INDEX requests_rare_by_series ON requests (series_id, status, timestamp_ms) WHERE status <> 'success';
CREATE INDEX requests_with_message ON requests (timestamp_ms) WHERE error_message IS NOT NULL;

-- Sums per cell of time, series and status. The two maxima say which cells can hold a slow or costly request.
CREATE TABLE rollup (
    grain_s          BIGINT NOT NULL,
    bucket_ms        BIGINT NOT NULL,
    series_id        BIGINT NOT NULL,
    status           TEXT NOT NULL,
    requests         BIGINT NOT NULL,
    unpriced         BIGINT NOT NULL,
    estimated        BIGINT NOT NULL,
    cost_nanousd     BIGINT NOT NULL,
    cost_max_nanousd BIGINT NOT NULL,
    audio_ms         BIGINT NOT NULL,
    input_tokens     BIGINT NOT NULL,
    output_tokens    BIGINT NOT NULL,
    cached_tokens    BIGINT NOT NULL,
    characters       BIGINT NOT NULL,
    ttfb_count       BIGINT NOT NULL,
    ttfb_sum_us      BIGINT NOT NULL,
    total_count      BIGINT NOT NULL,
    total_sum_us     BIGINT NOT NULL,
    total_max_us     BIGINT NOT NULL,
    PRIMARY KEY (grain_s, bucket_ms, series_id, status)
) WITHOUT ROWID;

-- How latencies spread, per cell of time and series; the layout of the two blobs is in store/histogram.py.
CREATE TABLE histogram (
    grain_s   BIGINT NOT NULL,
    bucket_ms BIGINT NOT NULL,
    series_id BIGINT NOT NULL,
    ttfb      BLOB,
    total     BLOB,
    PRIMARY KEY (grain_s, bucket_ms, series_id)
) WITHOUT ROWID;

-- The journal: what was changed in the configuration, by whom, and what undo works from.
CREATE TABLE changes (
    id             TEXT PRIMARY KEY,
    created_ms     BIGINT NOT NULL,
    applied_ms     BIGINT,
    state          TEXT NOT NULL,
    actor          TEXT NOT NULL,
    door           TEXT NOT NULL,
    tool           TEXT NOT NULL,
    summary        TEXT NOT NULL,
    file           TEXT NOT NULL,
    version_before TEXT NOT NULL,
    version_after  TEXT NOT NULL,
    diff           TEXT NOT NULL,
    edits          TEXT NOT NULL,
    undoes         TEXT
);
CREATE INDEX changes_pending ON changes (file, id) WHERE state = 'pending';
