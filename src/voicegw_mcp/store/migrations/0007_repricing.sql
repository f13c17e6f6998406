-- The price a row was billed by, whole: what library it is from, for which model, how much. Empty in rows from before.
CREATE TABLE dated_price (
    price_id BIGINT PRIMARY KEY,
    source   TEXT NOT NULL,
    dated    TEXT NOT NULL,
    version  TEXT NOT NULL DEFAULT '',
    model    TEXT NOT NULL DEFAULT '',
    terms    TEXT NOT NULL DEFAULT '',
    batch    BIGINT NOT NULL DEFAULT 0,
    UNIQUE (source, dated, version, model, terms, batch)
);
INSERT INTO dated_price (price_id, source, dated) SELECT price_id, source, dated FROM price;
DROP TABLE price;
ALTER TABLE dated_price RENAME TO price;

-- What runs of `voicegw reprice` changed, by model; written in the transactions that change the rows.
CREATE TABLE repriced (
    run            TEXT NOT NULL,
    model_id       TEXT NOT NULL,
    actor          TEXT NOT NULL,
    first_ms       BIGINT NOT NULL,
    last_ms        BIGINT NOT NULL,
    requests       BIGINT NOT NULL,
    before_nanousd BIGINT NOT NULL,
    after_nanousd  BIGINT NOT NULL,
    unpriced_before BIGINT NOT NULL,
    unpriced_after BIGINT NOT NULL,
    PRIMARY KEY (run, model_id)
) WITHOUT ROWID;

-- How many requests of a cell were priced by a relative of their model, see core/pricing.py.
ALTER TABLE rollup ADD COLUMN family BIGINT NOT NULL DEFAULT 0;
UPDATE rollup SET family = (
    SELECT COUNT(*) FROM requests
    WHERE requests.series_id = rollup.series_id AND requests.status = rollup.status
    AND timestamp_ms >= bucket_ms AND timestamp_ms < bucket_ms + grain_s * 1000
    AND price_id IN (SELECT price_id FROM price WHERE instr(source, '(family '))
) WHERE EXISTS (SELECT 1 FROM price WHERE instr(source, '(family '));
DROP TRIGGER rollup_updated;
CREATE TRIGGER rollup_updated AFTER UPDATE OF
    requests, unpriced, family, estimated, cost_nanousd, audio_ms, input_tokens, output_tokens, cached_tokens, characters,
    ttfb_count, ttfb_sum_us, total_count, total_sum_us
ON rollup WHEN NEW.grain_s IN (3600, 691200) BEGIN
    INSERT INTO touched VALUES (NEW.grain_s, NEW.bucket_ms, random() & 281474976710655)
    ON CONFLICT (grain_s, bucket_ms) DO UPDATE SET stamp = excluded.stamp;
END;
