"""Compare the tables of two outputs of one study: ``python tests/compare_tables.py OLD NEW``.

Numbers may differ by 1e-12, all else must be equal. RENAMED says which columns and tables have new names,
DROPPED which tables were left out on purpose. ``OLD`` and ``NEW`` are folders that hold ``tables/*.csv``.
"""

import sys
from pathlib import Path

import pandas as pd

TOLERANCE = 1e-12
RENAMED: dict[str, str] = {}  # old column or table -> new one
VALUES: dict[str, str] = {  # old text in a cell -> new one
    "not evaluable": "not testable",
    "independent": "baseline",
    "independent CNN": "Baseline CNN",
    "independent ViT": "Baseline ViT",
    "two independents": "two baselines",
    "shape_share": "shape_rate",
    "texture_share": "texture_rate",
}
DROPPED = {  # tables
    "05_rules",  # they are claims.yml, and said under each claim
    "04_consistency_cnn_to_vit",  # no figure or sentence read them; the figure's numbers are in 04_measures
    "04_consistency_vit_to_cnn",
    "04_effects",  # 04_transfer in words
    "05_effects",  # the largest of 04_transfer: controls, nearly all
    "04_retention_cnn_to_vit",  # 04_measures as text
    "04_retention_vit_to_cnn",
    "04_transfer_summary",  # the marks of the figure above it, counted; 05_sceptic counts over all methods
    "04_class_part",  # 05_hypotheses_comparisons has it, and 05_sceptic its mean
    "05_comparisons_C3b",  # by the mildest scramble alone, on which no verdict may rest
}
UNTESTABLE = {"H6", "H7"}  # hypotheses on properties that cannot be made
UNASKED = "embedding invariance|long-range"  # measures that made teachers are not asked
# Columns and measures that no figure, sentence, verdict or document read.
UNREAD_COLUMNS = ["cosine", "seeds_up", "ratio seconds", "retention seconds"]
UNREAD_MEASURES = ["order_index", "shape_preference", "interaction_range", "share_50", "share_90", "entropy"]
UNREAD_MEASURES += ["same_error", "texture_sensitivity"]
WORDS = {  # within a text
    "independent is NaN": "baseline is not defined",
    "student is NaN": "student is not defined",
    "teacher is NaN": "teacher is not defined",
    "not evaluable": "not testable",
    "Independent": "Baseline",
}
VERDICTS = {"C1c": "not testable"}  # its teacher isn't established to differ: no evidence against it
SORTED = {"04_measures"}  # rows may stand in another order: raw ratios have a block of their own
MORE = "05_comparisons"  # tables that may have gained rows: every comparison that a rule reads is shown
# Columns that hold rounded numbers as text, times of this machine, or sentences that were rewritten.
TEXTS = {
    "per_seed",
    "seconds",
    "because",
    "question",
    "tested here",
    "hypothesis",
    "statistic",
    "supported",
    "contradicted",
}


def differences(old: Path, new: Path) -> list[str]:
    """What is not the same, a line each."""
    found = []
    tables = {RENAMED.get(path.stem, path.stem): path for path in sorted((old / "tables").glob("*.csv"))}
    written = {path.stem: path for path in (new / "tables").glob("*.csv")}
    for name, path in tables.items():
        if path.stem in DROPPED:
            continue
        if name not in written:
            found.append(f"{name}: missing")
            continue
        one, other = pd.read_csv(path).rename(columns=RENAMED), pd.read_csv(written[name])
        one = one.drop(columns=UNREAD_COLUMNS, errors="ignore")
        if "measure" in one:
            one = one[~one.measure.isin(UNREAD_MEASURES)].reset_index(drop=True)
        if "hypothesis" in one:
            one = one[~one.hypothesis.isin(UNTESTABLE)].reset_index(drop=True)
        if name == "05_hypotheses_comparisons":
            one = one[~one.comparison.str.contains(UNASKED)].reset_index(drop=True)
        one = one.map(lambda value: VALUES.get(value, value)).replace(WORDS, regex=True)
        if name == "05_claims":
            one["verdict"] = one.claim.map(VERDICTS).fillna(one.verdict)
        if name.startswith(MORE):
            kept = other.set_index("comparison").reindex(one.comparison)
            other = kept.reset_index()
        missing = [column for column in one if column not in other and column not in TEXTS]
        if missing or len(one) != len(other):
            found.append(f"{name}: {len(one)} rows, now {len(other)}; missing columns {missing}")
            continue
        if name in SORTED:
            keys = ["direction", "role", "measure", "probe"]
            one, other = (table.sort_values(keys, ignore_index=True) for table in (one, other))
        for column in one.columns.difference(TEXTS):
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
