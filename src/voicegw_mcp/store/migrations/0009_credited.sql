-- By how much `voicegw reprice` has lowered the costs of a series, ever: what was billed first is the sum of its cells and this,
-- and that only grows. Written in the transactions that change the rows.
CREATE TABLE credited (
    series_id BIGINT PRIMARY KEY,
    nanousd   BIGINT NOT NULL
);
