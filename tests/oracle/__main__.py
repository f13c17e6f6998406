"""Compare the reports on a million synthetic calls with an independent oracle.

python -m tests.oracle            # 1,000,000 calls
python -m tests.oracle 200000     # fewer
"""

import sys
import tempfile
from pathlib import Path

from tests.oracle.comparison import compare


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="voicegw-oracle-") as folder:
        comparison = compare(Path(folder), count)
    sys.stdout.write("\n".join([*comparison.differences[:20], str(comparison)]) + "\n")
    return 1 if comparison.differences else 0


if __name__ == "__main__":
    raise SystemExit(main())
