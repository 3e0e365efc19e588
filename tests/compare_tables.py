"""Compare the tables of two outputs of one study: ``python tests/compare_tables.py OLD NEW``.

Numbers may differ by 1e-12, all else must be equal. Before a change that must keep every number, make OLD
from the published records; after it, NEW. Fill in what the change means to rename or to leave out.
"""

import sys
from pathlib import Path

import pandas as pd

TOLERANCE = 1e-12
RENAMED: dict[str, str] = {}  # old column or table -> new one
DROPPED: set[str] = set()  # tables
TIMES = {"seconds"}  # columns about the machine that made the table


def differences(old: Path, new: Path) -> list[str]:
    """What is not the same, a line each."""
    found, written = [], {path.stem: path for path in (new / "tables").glob("*.csv")}
    for path in sorted((old / "tables").glob("*.csv")):
        name = RENAMED.get(path.stem, path.stem)
        if name in DROPPED:
            continue
        if name not in written:
            found.append(f"{name}: missing")
            continue
        one, other = pd.read_csv(path).rename(columns=RENAMED), pd.read_csv(written[name])
        missing = [column for column in one if column not in other]
        if missing or len(one) != len(other):
            found.append(f"{name}: {len(one)} rows, now {len(other)}; missing columns {missing}")
            continue
        for column in one.columns.difference(TIMES):
            try:
                pd.testing.assert_series_equal(
                    one[column], other[column], check_dtype=False, rtol=TOLERANCE, atol=TOLERANCE
                )
            except AssertionError as error:
                found.append(f"{name}.{column}: {' '.join(str(error).split())[:300]}")
    return found


if __name__ == "__main__":
    lines = differences(Path(sys.argv[1]), Path(sys.argv[2]))
    print("\n".join(lines) or "all tables are equal")
    sys.exit(bool(lines))
