"""What the program remembers: the request log, its rollups, and the journal of changes.

The only package with SQL text and the only one that imports ``sqlite3``. It may import ``domain``
and ``errors``.
"""
