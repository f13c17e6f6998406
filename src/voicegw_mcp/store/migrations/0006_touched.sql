-- Which hours, and which spans of eight days, were written to: a new random number for each whenever one of its cells
-- changes. Who remembers sums of them sees whether they still hold. Triggers, so that whatever changes a cell is told,
-- also a program of an older version that has the store open. (Triggers and random() are SQLite's; elsewhere the same in its own words.)
CREATE TABLE touched (
    grain_s   BIGINT NOT NULL,
    bucket_ms BIGINT NOT NULL,
    stamp     BIGINT NOT NULL,
    PRIMARY KEY (grain_s, bucket_ms)
) WITHOUT ROWID;

CREATE TRIGGER rollup_inserted AFTER INSERT ON rollup WHEN NEW.grain_s IN (3600, 691200) BEGIN
    INSERT INTO touched VALUES (NEW.grain_s, NEW.bucket_ms, random() & 281474976710655)
    ON CONFLICT (grain_s, bucket_ms) DO UPDATE SET stamp = excluded.stamp;
END;
CREATE TRIGGER rollup_updated AFTER UPDATE OF
    requests, unpriced, estimated, cost_nanousd, audio_ms, input_tokens, output_tokens, cached_tokens, characters,
    ttfb_count, ttfb_sum_us, total_count, total_sum_us
ON rollup WHEN NEW.grain_s IN (3600, 691200) BEGIN
    INSERT INTO touched VALUES (NEW.grain_s, NEW.bucket_ms, random() & 281474976710655)
    ON CONFLICT (grain_s, bucket_ms) DO UPDATE SET stamp = excluded.stamp;
END;
CREATE TRIGGER rollup_deleted AFTER DELETE ON rollup WHEN OLD.grain_s IN (3600, 691200) BEGIN
    INSERT INTO touched VALUES (OLD.grain_s, OLD.bucket_ms, random() & 281474976710655)
    ON CONFLICT (grain_s, bucket_ms) DO UPDATE SET stamp = excluded.stamp;
END;
CREATE TRIGGER histogram_inserted AFTER INSERT ON histogram WHEN NEW.grain_s IN (3600, 691200) BEGIN
    INSERT INTO touched VALUES (NEW.grain_s, NEW.bucket_ms, random() & 281474976710655)
    ON CONFLICT (grain_s, bucket_ms) DO UPDATE SET stamp = excluded.stamp;
END;
CREATE TRIGGER histogram_updated AFTER UPDATE OF ttfb, total ON histogram WHEN NEW.grain_s IN (3600, 691200) BEGIN
    INSERT INTO touched VALUES (NEW.grain_s, NEW.bucket_ms, random() & 281474976710655)
    ON CONFLICT (grain_s, bucket_ms) DO UPDATE SET stamp = excluded.stamp;
END;
CREATE TRIGGER histogram_deleted AFTER DELETE ON histogram WHEN OLD.grain_s IN (3600, 691200) BEGIN
    INSERT INTO touched VALUES (OLD.grain_s, OLD.bucket_ms, random() & 281474976710655)
    ON CONFLICT (grain_s, bucket_ms) DO UPDATE SET stamp = excluded.stamp;
END;
