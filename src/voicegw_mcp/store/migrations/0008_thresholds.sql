-- How many quarter hours of a series have so slow or so costly a request at all, and which, when they are few. Of cells, not
-- of rows: there are fewer of them, and an index of every row's latency and cost would take a tenth of the store.
CREATE INDEX rollup_by_latency ON rollup (total_max_us) WHERE grain_s = 900;
CREATE INDEX rollup_by_cost ON rollup (cost_max_nanousd) WHERE grain_s = 900;

-- Requests without success in the order of a page (seq before the series, hence by name), with the series, so that those of
-- others are passed over without reading them: of a store with two failures in a hundred half a byte per request.
CREATE INDEX requests_unsuccessful ON requests (status, timestamp_ms, seq, series_id) WHERE status <> 'success';
