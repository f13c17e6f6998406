-- Their room is used again by what follows. The rollups lead to the rows of a rare status.
DROP INDEX requests_by_session;
DROP INDEX requests_rare_by_time;
DROP INDEX requests_rare_by_series;

-- How costly the slow requests of a cell are, see store/peaks.py. NULL is not known: what was recorded before.
ALTER TABLE rollup ADD COLUMN peaks BLOB;

-- Which milliseconds have an error text that holds three characters in a row. Only ASCII letters are folded, as by LIKE;
-- two characters behind the end make one and two characters the beginning of three. The other columns are one term each,
-- by which a search skips errors of other series and statuses, and faster or cheaper ones: a number's digits, and its first.
-- (SQLite's own; elsewhere an index of trigrams.)
CREATE VIEW error_document AS
SELECT
    seq,
    timestamp_ms,
    lower(error_message) || char(57344, 57344) AS message,
    char(983040, 983040 + series_id / 4096, 983040 + series_id % 4096) AS series,
    char(983041, 983040 + unicode(status), 983040) AS status,
    char(983042, 983040 + length(COALESCE(total_us, 0)), 983040) AS latency_digits,
    char(983042, 983040 + length(COALESCE(total_us, 0)), 983041 + substr(COALESCE(total_us, 0), 1, 1)) AS latency_first,
    char(983043, 983040 + length(COALESCE(cost_nanousd, 0)), 983040) AS cost_digits,
    char(983043, 983040 + length(COALESCE(cost_nanousd, 0)), 983041 + substr(COALESCE(cost_nanousd, 0), 1, 1)) AS cost_first
FROM requests WHERE error_message IS NOT NULL AND typeof(timestamp_ms) = 'integer';
CREATE VIRTUAL TABLE error_text USING fts5 (
    message, series, status, latency_digits, latency_first, cost_digits, cost_first,
    content = '', columnsize = 0, detail = 'none', tokenize = 'trigram case_sensitive 1'
);
CREATE VIRTUAL TABLE error_term USING fts5vocab (error_text, 'row');
INSERT INTO error_text (rowid, message, series, status, latency_digits, latency_first, cost_digits, cost_first)
SELECT timestamp_ms, message, series, status, latency_digits, latency_first, cost_digits, cost_first
FROM error_document ORDER BY timestamp_ms;

-- Which cells of time and series a session has rows in: a tenth of the session's rows, in place of an index of them all.
-- Inside a cell the rows are found by series and time.
CREATE TABLE session_cell (
    session_id TEXT NOT NULL,
    bucket_ms  BIGINT NOT NULL,
    series_id  BIGINT NOT NULL,
    PRIMARY KEY (session_id, bucket_ms, series_id)
) WITHOUT ROWID;
INSERT INTO session_cell (session_id, bucket_ms, series_id)
SELECT DISTINCT session_id, timestamp_ms / 900000 * 900000, series_id
FROM requests WHERE session_id IS NOT NULL ORDER BY 1, 2, 3;
