"""What a caller who is bound to projects reads: views of a connection that hold only their rows. Imports nothing of ours.

A name is looked up among temporary things before anything else (sqlite.org, lang_naming): whatever a query asks for, there
is nothing else. The journal, the losses and what no project is named in are of all projects.
"""

from __future__ import annotations

from typing import Final

BOUND_VIEWS: Final = """
CREATE TEMP TABLE bound (project TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP VIEW series AS SELECT * FROM main.series WHERE project IN (SELECT project FROM temp.bound);
CREATE TEMP VIEW requests AS SELECT * FROM main.requests WHERE series_id IN (SELECT series_id FROM temp.series);
CREATE TEMP VIEW rollup AS SELECT * FROM main.rollup WHERE series_id IN (SELECT series_id FROM temp.series);
CREATE TEMP VIEW histogram AS SELECT * FROM main.histogram WHERE series_id IN (SELECT series_id FROM temp.series);
CREATE TEMP VIEW credited AS SELECT * FROM main.credited WHERE series_id IN (SELECT series_id FROM temp.series);
CREATE TEMP VIEW alerts AS SELECT * FROM main.alerts WHERE project IN (SELECT project FROM temp.bound);
CREATE TEMP VIEW alert_state AS SELECT * FROM main.alert_state
    WHERE subject IN (SELECT 'project:' || project FROM temp.bound);
CREATE TEMP VIEW changes AS SELECT * FROM main.changes WHERE 0;
CREATE TEMP VIEW lost AS SELECT * FROM main.lost WHERE 0;
"""
"""Run before ``bound`` is filled with the projects."""
