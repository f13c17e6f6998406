-- Since when the log is whole. One row: rows of the log before this moment may have been pruned; what is imported from
-- before it cannot be told from what was pruned.
CREATE TABLE retention (
    only_row         BIGINT PRIMARY KEY CHECK (only_row = 1),
    pruned_before_ms BIGINT NOT NULL
);
