"""Models that run in the process, made small by the tests, and the real packages that run them."""
