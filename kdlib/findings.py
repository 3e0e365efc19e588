"""Sentences and verdicts made from tables, so that no number and no judgement is typed.

Which words a difference may be told in follows from its interval and from the smallest effect of interest,
both fixed before the runs: "raises" only if the whole interval lies beyond that effect, "no meaningful
difference" only if the 90% interval lies within it, "inconclusive" otherwise.
"""

from pathlib import Path

import pandas as pd

from kdlib.bias import SMALLEST_EFFECTS
from kdlib.figures import DIRECTIONS, title_of
from kdlib.methods import METHODS

ORIGINAL = Path(__file__).with_name("original.csv")

# The original study's claims, and the methods and controls without which a verdict would be a guess.
CLAIMS = {
    "C1": (
        "CSKD is the most efficient and effective CNN → ViT method (texture, noise).",
        ["cskd", "vlfkd", "lm", "crd"],
    ),
    "C2": (
        "ViTs do not inherit a CNN's locality; gains over the independent ViT are mild.",
        ["cskd", "vlfkd", "lm", "crd", "interaction range"],
    ),
    "C3": (
        "CRD and SSKD instil shape bias and permutation invariance in CNNs, far above the independent CNN.",
        ["crd", "sskd", "same-family teacher"],
    ),
    "C4": ("CAPD does not converge in at most 5 epochs.", ["capd"]),
    "C5": ("ViTs are the better teachers of behaviour.", ["lm", "crd", "same-family teacher"]),
}


def effect_word(row: pd.Series, effect: str = "movement") -> str:
    """How the table of allowed words tells a row of :func:`kdlib.bias.tables.transfer_table`."""
    smallest = SMALLEST_EFFECTS[row.measure]
    low, high = row[f"{effect}_low"], row[f"{effect}_high"]
    if pd.isna(low):
        return f"not evaluable ({row.reason})"
    if low > 0 or high < 0:
        verb = "raises" if low > 0 else "lowers"
        return verb if low > smallest or high < -smallest else f"{verb} slightly"
    if -smallest < row.narrow_low and row.narrow_high < smallest:
        return f"no meaningful difference (within ±{smallest:g})"
    return "inconclusive"


def effect_table(transfer: pd.DataFrame) -> pd.DataFrame:
    """Every movement in words: direction, method, measure, probe, result, and whether it is transfer.

    "Toward the teacher" needs an established gap and a movement whose interval lies on the teacher's side.
    """
    rows = []
    for _, row in transfer.iterrows():
        if pd.isna(row.get("movement")):
            span, side = "", "not evaluable"
        else:
            span = f", {row.movement:+.3f} [{row.movement_low:+.3f}, {row.movement_high:+.3f}]"
            side = "teacher not different"
            if row.established:
                side = "toward" if row.toward_low > 0 else "away" if row.toward_high < 0 else "neither"
        rows.append(
            {
                "direction": DIRECTIONS.get(row.direction, row.direction),
                "method": title_of(row.method),
                "measure": row.measure.replace("_", " "),
                "probe": row.probe,
                "result": effect_word(row) + span,
                "teacher": side,
            }
        )
    return pd.DataFrame(rows)


def accuracy_sentence(measures: pd.DataFrame) -> str:
    """Who is best on clean images, and how the independent student does."""
    clean = measures[(measures.measure == "accuracy") & (measures.probe == "clean")].set_index("role")
    order = clean["estimate"].sort_values(ascending=False)
    told = ", ".join(f"{title_of(role)} {_percent(clean.loc[role])}" for role in order.index)
    return f"On unchanged images, best first: {told}."


def _percent(row: pd.Series) -> str:
    if pd.isna(row.low):
        return f"{row.estimate:.1%}"
    return f"{row.estimate:.1%} [{row.low:.1%}, {row.high:.1%}]"


def training_sentence(history: pd.DataFrame) -> str:
    """Which runs diverged, if any."""
    runs = history.groupby(["role", "seed"], sort=False).agg(
        diverged=("diverged", "any"), epochs=("epoch", "max")
    )
    lost = runs[runs.diverged]
    if lost.empty:
        return f"All {len(runs)} runs came to their end; none diverged."
    told = [f"{title_of(role)}, seed {seed}, in epoch {row.epochs}" for (role, seed), row in lost.iterrows()]
    return f"Diverged: {'; '.join(told)}. Such a run counts with the answers that it gives."


def ratio_sentence(measures: pd.DataFrame) -> str:
    """Where the raw ratio flatters most, compared with the chance-adjusted retention."""
    keys = ["direction", "role", "probe"]
    wide = measures.set_index([*keys, "measure"])["estimate"].unstack("measure")
    wide = wide.dropna(subset=["raw_ratio", "retention"])
    if wide.empty:
        return "No model learned enough for a retention."
    flattered = (wide.raw_ratio - wide.retention).idxmax()
    row = wide.loc[flattered]
    return (
        f"The raw ratio flatters {title_of(flattered[1])} under {flattered[2]} most: it gives "
        f"{row.raw_ratio:.2f} to a network that keeps {row.retention:.2f} of its accuracy above chance "
        f"({row.accuracy:.1%} right)."
    )


def shape_bias_sentence(measures: pd.DataFrame) -> str:
    """Each model's shape bias with its cue rate."""
    wide = measures[measures.probe == "cue_conflict"]
    if wide.empty:
        return "This study has no cue conflict, so nothing can be said of shape bias."
    wide = wide.set_index(["role", "measure"])["estimate"].unstack("measure")
    told = []
    for role, row in wide.loc[list(measures.role.unique())].iterrows():
        bias = "not defined" if pd.isna(row.shape_bias) else f"{row.shape_bias:.2f}"
        told.append(f"{title_of(role)} {bias} (names a cue on {row.cue_rate:.0%})")
    return f"Shape bias: {', '.join(told)}."


def transfer_sentence(effects: pd.DataFrame) -> str:
    """How often a student moved toward its teacher where there was anywhere to move."""
    if effects.empty:
        return "One seed gives no interval, so nothing can be said of transfer; add seeds."
    open_cells = effects[effects.teacher.isin(["toward", "away", "neither"])]
    counts = open_cells.teacher.value_counts()
    shown = (
        f"The teacher differs from the independent student in {len(open_cells)} of {len(effects)} comparisons"
    )
    if not len(open_cells):
        return shown + ": there was nothing to transfer that these seeds can show."
    return (
        f"{shown}; there the student moved toward it in {counts.get('toward', 0)}, away from it in "
        f"{counts.get('away', 0)}, and neither is sure in {counts.get('neither', 0)}. "
        "Intervals are not corrected for the number of comparisons."
    )


def cost_sentence(cost: pd.DataFrame) -> str:
    """An epoch's cost relative to the independent student's."""
    methods = cost[~cost.role.isin(["teacher", "independent"])]
    relative = methods.groupby("role", sort=False)["relative"].mean()
    told = ", ".join(f"{title_of(role)} {value:.2f}" for role, value in relative.items())
    return f"An epoch costs, in epochs of the independent student: {told}."


def cost_summary(cost: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds: seconds an epoch, relative to the independent student, extra parameters."""
    columns = ["epoch", "relative", "extra_parameters"]
    means = cost.groupby("role", sort=False)[columns].mean().reset_index()
    means["extra_parameters"] = means["extra_parameters"].astype(int)
    means["role"] = means["role"].map(title_of)
    return means.rename(columns={"epoch": "seconds an epoch", "extra_parameters": "extra parameters"})


def sure(effects: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`effect_table` that say "raises" or "lowers"."""
    if effects.empty:
        return effects
    return effects[effects["result"].str.startswith(("raises", "lowers"))]


def original_table() -> pd.DataFrame:
    """The original study's accuracies with the chance-adjusted retention that follows from them.

    Read from its saved notebook outputs, in percent; ten classes. NaN where the clean accuracy is within
    ten points of chance: then there is nothing to retain.
    """
    table = pd.read_csv(ORIGINAL)
    for probe in table.columns[3:]:
        table[f"ratio {probe}"] = table[probe] / table["clean"]
        retained = (table[probe] - 10) / (table["clean"] - 10)
        table[f"retention {probe}"] = retained.where(table["clean"] > 20)
    return table


def original_sentence(original: pd.DataFrame) -> str:
    """The students without a retention: what they got right, and the ratios that were published for them."""
    guessers = original[original["retention texture"].isna()]
    ratios = [name for name in original if name.startswith("ratio ")]
    told = [
        f"{row.model} ({DIRECTIONS[row.direction]}) gets {row.clean:.1f}% of the unchanged images right and "
        f"was given ratios of {row[ratios].min():.2f} to {row[ratios].max():.2f}"
        for _, row in guessers.iterrows()
    ]
    return f"Networks that hardly learned, whose ratios are chance over nearly chance: {'; '.join(told)}."


def claims_table(methods: list[str]) -> pd.DataFrame:
    """The original's claims and what a study of these methods still lacks for a verdict."""
    rows = []
    for claim, (sentence, needs) in CLAIMS.items():
        missing = [METHODS[name].title if name in METHODS else name for name in needs if name not in methods]
        verdict = f"not evaluable: needs {', '.join(missing)}" if missing else "not evaluated"
        rows.append({"claim": claim, "the original's sentence": sentence, "here": verdict})
    return pd.DataFrame(rows)
