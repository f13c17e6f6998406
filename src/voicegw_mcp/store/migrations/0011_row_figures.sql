-- A quarter hour of a series that is searched for slow or costly requests: which of its rows are is told by the index, without
-- reading each of them (from a page of its own, as a rule). 8 bytes per request.
DROP INDEX requests_by_series;
CREATE INDEX requests_by_series ON requests (series_id, timestamp_ms, total_us, cost_nanousd);
