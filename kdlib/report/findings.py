"""Sentences and verdicts made from tables, so that no number and no judgement is typed.

Which words a difference may be told in follows from its interval and from the smallest effect of interest
that was fixed before the runs: see :func:`kdlib.bias.statistics.effect_word`.
"""

from collections.abc import Iterable

import pandas as pd

from kdlib.bias import SMALLEST_EFFECTS
from kdlib.bias.statistics import effect_word, with_interval
from kdlib.data import Dataset
from kdlib.report.tables import side
from kdlib.study.controls import CONTROLS, REFERENCES, direction_title, title_of


def movement_word(row: pd.Series) -> str:
    """How a row of :func:`kdlib.report.tables.transfer_table` may be told; p is not adjusted: it explores."""
    if pd.isna(row.movement_low):
        return f"not evaluable ({row.reason})"
    wide, narrow = (row.movement_low, row.movement_high), (row.narrow_low, row.narrow_high)
    return effect_word(wide, narrow, row.p, SMALLEST_EFFECTS[row.measure])


def effect_table(transfer: pd.DataFrame) -> pd.DataFrame:
    """Every movement in words: direction, method, measure, probe, result, and which way it went."""
    rows = []
    for _, row in transfer.iterrows():
        span = with_interval(row.movement, row.movement_low, row.movement_high)
        span = "" if pd.isna(row.movement) else f", {span}"
        rows.append(
            {
                "direction": direction_title(row.direction),
                "method": title_of(row.method),
                "measure": row.measure.replace("_", " "),
                "probe": row.probe,
                "result": movement_word(row) + span,
                "teacher": side(row),
            }
        )
    return pd.DataFrame(rows)


def transfer_summary(transfer: pd.DataFrame) -> pd.DataFrame:
    """For each student: in how many comparisons it moved toward its direction's teacher, away, or neither.

    Only comparisons in which the teacher surely differs from the independent student are counted.
    """
    sides = transfer.assign(side=transfer.apply(side, axis=1))
    counts = sides.groupby(["direction", "method"], sort=False)["side"].value_counts().unstack(fill_value=0)
    counts = counts.reindex(columns=["toward", "away", "neither"], fill_value=0).reset_index()
    kinds = counts.method.map(lambda role: "control" if role in CONTROLS else "method")
    counts = counts.assign(
        direction=counts.direction.map(direction_title), method=counts.method.map(title_of), kind=kinds
    )
    return counts.rename_axis(columns=None)


def accuracy_sentence(measures: pd.DataFrame) -> str:
    """Who is best on clean images, and how the independent student and the teacher do."""
    clean = measures[(measures.measure == "accuracy") & (measures.probe == "clean")].set_index("role")
    order = list(clean.drop(index="teacher")["estimate"].sort_values(ascending=False).index)
    best = ", ".join(f"{title_of(role)} {_percent(clean.loc[role])}" for role in order[:3])
    place = order.index("independent") + 1
    return (
        f"On unchanged images the best students are {best}; the independent student is number {place} of "
        f"{len(order)} with {_percent(clean.loc['independent'])}, and the teacher gets "
        f"{_percent(clean.loc['teacher'])}."
    )


def _percent(row: pd.Series) -> str:
    return with_interval(row.estimate, row.low, row.high, ".1%")


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


def convergence_sentence(history: pd.DataFrame, role: str) -> str:
    """How far a method has come in its last epoch, beside the independent student."""
    if role not in set(history.role):
        return f"This study has no {title_of(role)}."
    accuracy = history[history.term == "test_accuracy"].sort_values("epoch")
    last = accuracy.groupby(["role", "seed"])["value"].last()
    span = {name: f"{last[name].min():.1%} to {last[name].max():.1%}" for name in (role, "independent")}
    label = history[(history.role == role) & (history.term == "label")].groupby("epoch")["value"].mean()
    mean = accuracy[accuracy.role == role].groupby("epoch")["value"].mean()
    near = mean[mean >= 0.9 * last["independent"].mean()]
    when = f"after epoch {near.index[0]}" if len(near) else f"in none of its {mean.index.max()} epochs"
    return (
        f"After its last epoch {title_of(role)} gets {span[role]} of the unchanged images right (lowest and "
        f"highest seed; independent: {span['independent']}). Its mean passes nine tenths of the independent "
        f"student's {when}. Its cross-entropy with the labels went from "
        f"{label.iloc[0]:.2f} in the first epoch to {label.iloc[-1]:.2f} in the last."
    )


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
    """Shape bias of teacher and independent student, and its range over the others, with the cue rates."""
    wide = measures[measures.probe == "cue_conflict"]
    if wide.empty:
        return "This study has no cue conflict, so nothing can be said of shape bias."
    wide = wide.set_index(["role", "measure"])["estimate"].unstack("measure")

    def tell(role: str) -> str:
        bias, rate = wide.loc[role, ["shape_bias", "cue_rate"]]
        told = "not defined" if pd.isna(bias) else f"{bias:.2f}"
        return f"{title_of(role)} {told} (names a cue on {rate:.0%})"

    others = wide.drop(index=[role for role in REFERENCES if role in wide.index])["shape_bias"].dropna()
    span = ""
    if len(others):
        span = f"; of the other students, lowest {tell(others.idxmin())}, highest {tell(others.idxmax())}"
    return f"Shape bias: {', '.join(tell(role) for role in REFERENCES if role in wide.index)}{span}."


def transfer_sentence(transfer: pd.DataFrame) -> str:
    """How often a method's student moved toward its teacher where there was anywhere to move."""
    methods = transfer[~transfer.method.isin(list(CONTROLS))]
    if methods.empty or methods.movement.isna().all():
        return "One seed gives no interval, so nothing can be said of transfer; add seeds."
    counts = methods.apply(side, axis=1).value_counts()
    moved = [int(counts.get(name, 0)) for name in ("toward", "away", "neither")]
    shown = f"The teacher differs from the independent student in {sum(moved)} of {len(methods)} comparisons"
    if not sum(moved):
        return shown + ": there was nothing to transfer that these seeds can show."
    return (
        f"{shown}; there the student moved toward it in {moved[0]}, away from it in {moved[1]}, and neither "
        f"is sure in {moved[2]}. Intervals are not corrected for the number of comparisons."
    )


def cost_sentence(cost: pd.DataFrame) -> str:
    """An epoch's cost relative to the independent student's."""
    methods = cost[~cost.role.isin([*REFERENCES, *CONTROLS])]
    relative = methods.groupby("role", sort=False)["relative"].mean().sort_values()
    told = ", ".join(f"{title_of(role)} {value:.2f}" for role, value in relative.items())
    return f"An epoch costs, in epochs of the independent student, cheapest first: {told}."


def cost_summary(cost: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds: seconds an epoch, relative to the independent student, extra parameters."""
    columns = ["epoch", "relative", "extra_parameters"]
    means = cost.groupby("role", sort=False)[columns].mean().reset_index()
    means["extra_parameters"] = means["extra_parameters"].astype("Int64")
    means["role"] = means["role"].map(title_of)
    return means.rename(columns={"epoch": "seconds an epoch", "extra_parameters": "extra parameters"})


def sure(transfer: pd.DataFrame, count: int = 10) -> pd.DataFrame:
    """Each direction's largest movements that lie beyond the smallest effect of interest, in words."""
    smallest = transfer.measure.map(SMALLEST_EFFECTS)
    surely = (transfer.movement_low > smallest) | (transfer.movement_high < -smallest)
    size = (transfer.movement / smallest).abs()
    ranked = transfer.assign(size=size)[surely].sort_values("size", ascending=False)
    largest = ranked.groupby("direction", sort=False).head(count).sort_values("direction", kind="stable")
    return effect_table(largest)


def control_table(names: list[str]) -> pd.DataFrame:
    """What each of a direction's controls separates."""
    rows = [{"control": CONTROLS[name].title, "what it tells": CONTROLS[name].question} for name in names]
    return pd.DataFrame(rows)


def pictures_sentence(data: Dataset, pictured: Dataset) -> str:
    """What the galleries show."""
    if data is pictured:
        return f"The pictures below are of this study's own images: {data.source}."
    return (
        f"The records of this study hold answers to {data.source}, not its images: the pictures below are of "
        f"the {pictured.source}, under the same probes."
    )


def external_sentence(missing: list[str], found: Iterable[str]) -> str:
    """Which stimuli by others are used, and how to get those that aren't there."""
    found = list(found)
    told = f"In use: {', '.join(found)}." if found else "None is in use."
    return "\n".join([told, *(f"* Not here: {text}." for text in missing)])


def acceptance_sentence(table: pd.DataFrame) -> str:
    """How many probes are accepted, and why the others aren't."""
    refused = table[~table.accepted]
    told = f"{len(table) - len(refused)} of {len(table)} probes are accepted on these images"
    if refused.empty:
        return f"{told}."
    reasons = [f"{row.probe.replace('_', ' ')} ({row.reason})" for row in refused.itertuples()]
    return f"{told}; not accepted, and used for no verdict: {', '.join(reasons)}."


def yardstick_sentence(table: pd.DataFrame) -> str:
    """Whether every measure found what must be there."""
    failed = table[~table.holds]
    if failed.empty:
        return f"All {len(table)} known answers were found."
    told = [
        f"{row.network.lower()}: {row.measure} {row.lowest:.2f} to {row.highest:.2f}"
        for row in failed.itertuples()
    ]
    return f"{len(failed)} of {len(table)} known answers were missed: {'; '.join(told)}."


def schedule_sentence(table: pd.DataFrame) -> str:
    """Which students lie surely off the line that accuracy alone draws, and by how much at most."""
    students = table[~table.schedule & (table.role != "teacher")]
    if students.low.isna().all():
        return "Too few schedules or seeds for a line, so accuracy alone can't be ruled out."
    smallest = SMALLEST_EFFECTS["retention"]
    off = students[(students.low > smallest) | (students.high < -smallest)]
    told = f"{len(off)} of {len(students)} retentions lie surely off the independent student's line"
    told += f" by more than {smallest:g}"
    if off.empty:
        return f"{told}."
    row = off.loc[off.residual.abs().idxmax()]
    return (
        f"{told}, farthest {title_of(row.role)} under {row.probe.replace('_', ' ')}: "
        f"{with_interval(row.residual, row.low, row.high, '+.2f')}."
    )
