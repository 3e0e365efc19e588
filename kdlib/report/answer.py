"""The study on one page, every number computed: verdicts, what transferred, at what cost, the controls."""

import pandas as pd

from kdlib.bias.influence import INSIDE, Measures
from kdlib.bias.measures import SMALLEST_EFFECTS
from kdlib.bias.statistics import with_interval
from kdlib.report.claims import Verdict, judge, read_claims, records_of
from kdlib.report.original import original_sentence, original_table
from kdlib.report.tables import side, transfer_table
from kdlib.study.controls import CONTROLS, WITHOUT_IT, direction_title, title_of
from kdlib.study.profile import read_profile

BIASES = {  # what the study is about, as (measure, probe)
    "shape bias": ("shape_bias", "cue_conflict"),
    "foreign texture withstood": ("retention", "cue_conflict"),
    "texture removed": ("retention", "superpixels"),
    "layout not needed (answers)": ("retention", "scramble_gutter"),
    "layout not needed (embedding)": ("embedding_invariance", "scramble_gutter"),
    "far over near interactions": ("far_near", INSIDE),
    "noise withstood": ("retention", "gaussian_noise"),
}
TWINS = {
    "lm": "lm_same_family",
    "crd": "crd_same_family",
}  # a method and its teacher-of-one's-own-family control
LONGEST = 170  # characters of a reason that the short table shows whole


def setting_sentence(study) -> str:
    """What was run."""
    data, profile = study.dataset, study.profile
    names = [_student(profile, network) for network in profile["students"].values()]
    planned = read_profile(study.parameters["profile"])
    run = {role for plan in study.directions.values() for role in _roles(plan)}
    wanted = [role for plan in planned["directions"].values() for role in _roles(plan)]
    left = [title_of(role) for role in wanted if role not in run]
    left += ["the longer schedule"] if planned.get("longer") and not study.longer else []
    told = f" Not run yet of this profile: {', '.join(dict.fromkeys(left))}." if left else ""
    specs = {member.spec.id for member in study.members()}
    later = {member.spec.id for member in study.longer.members()} - specs if study.longer else set()
    runs = f"{len(specs)} runs in all" + (f", and {len(later)} of a longer schedule" if later else "")
    return (
        f"{data.source}: {len(data.train):,} training images, answers to {len(study.test):,} test images and "
        f"what is made of them; students are {' and '.join(names)}; {len(study.seeds)} seeds, each "
        f"with teachers of its own; {runs}.{told}"
    )


def _roles(plan: dict) -> list[str]:
    return [*plan["methods"], *plan.get("controls", [])]


def _student(profile: dict, network: dict) -> str:
    recipe, model = profile["training"] | network.get("training", {}), network["model"]
    options = ", ".join(f"{name}={value}" for name, value in model.get("options", {}).items())
    return f"timm's {model['name']} ({options or 'as it is'}), {recipe['epochs']} epochs"


def verdict_table(verdicts: dict[str, Verdict]) -> pd.DataFrame:
    """Claim, what was tested, verdict, and the least favourable of the numbers that it rests on."""
    claims = read_claims()
    reasons = [verdicts[name].because for name in claims.claim]
    return pd.DataFrame(
        {
            "claim": claims.claim,
            "tested here": claims.hypothesis,
            "verdict": [f"**{verdicts[name].word}**" for name in claims.claim],
            "because": [_shortened(text) for text in reasons],
        }
    )


def _shortened(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    first, *others = text.split("; ")
    return f"{first}; and {len(others)} more in notebook 05"


def movements(transfer: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`kdlib.report.tables.transfer_table` that the study is about, with the bias's name
    and the :func:`kdlib.report.tables.side` that each moved to."""
    found = pd.concat(
        transfer[(transfer.measure == measure) & (transfer.probe == probe)].assign(bias=name)
        for name, (measure, probe) in BIASES.items()
    )
    order = list(transfer.direction.unique())
    found = found.assign(side=found.apply(side, axis=1))
    return found.sort_values("direction", key=lambda names: names.map(order.index), kind="stable")


def headline(verdicts: dict[str, Verdict], moved: pd.DataFrame) -> str:
    """Which biases moved for what reason, and how many claims hold; ``moved`` as by :func:`movements`."""
    words: dict[str, list[str]] = {}
    for name, verdict in verdicts.items():
        words.setdefault(verdict.word, []).append(name)
    claims = [
        f"{word}: {', '.join(names)}" for word, names in sorted(words.items(), key=lambda w: -len(w[1]))
    ]
    counts, told = [], []
    for direction, part in moved.groupby("direction", sort=False):
        differ = part[part.established].bias.nunique()
        toward = part[(part.side == "toward") & ~part.method.isin(list(CONTROLS))]
        beyond = toward[toward.beyond > 0].groupby("bias", sort=False).method.unique()
        counts.append((part.bias.nunique(), differ, toward.bias.nunique(), len(beyond)))
        asked, differing, moving, farther = counts[-1]
        names = [f"{bias} ({', '.join(map(title_of, students))})" for bias, students in beyond.items()]
        told.append(
            f"{direction_title(direction)}: the teacher differs in {differing} of {asked} biases, students "
            f"move in {moving}, farther than every control in {farther or 'none'}{': ' if names else ''}"
            f"{', '.join(names)}."
        )
    asked, differing, moving, farther = map(sum, zip(*counts, strict=True))
    needed = "needs such a teacher" if 2 * farther > moving else "is not shown to need such a teacher"
    sentences = [
        f"In {differing or 'none'} of {asked} biases, by direction, a teacher surely differs from the "
        f"independent student of the other architecture. Some method's student surely moves toward it in "
        f"{moving or 'none'} of them, and in {farther or 'none'} surely farther than every control to which "
        "no such teacher came" + (f": most of what moves {needed}." if moving else "."),
        *told,
        f"The original's claims, in {len(verdicts)} testable parts: {'; '.join(claims)}.",
    ]
    return " ".join(sentences)


def bias_table(moved: pd.DataFrame) -> pd.DataFrame:
    """For each direction and bias: how far the teacher is from the independent student, and who moved."""
    return pd.DataFrame(
        {"direction": direction_title(direction), "bias": bias, **_moves(part)}
        for (direction, bias), part in moved.groupby(["direction", "bias"], sort=False)
    )


def _moves(asked: pd.DataFrame) -> dict[str, str]:
    defined = asked.dropna(subset=["gap"])
    gap = (defined if len(defined) else asked).iloc[0]  # the same in every row that has one
    found = {"teacher − independent": with_interval(gap.gap, gap.gap_low, gap.gap_high, "+.2f")}
    methods, controls = ~asked.method.isin(list(CONTROLS)), asked.method.isin(WITHOUT_IT)
    for name, part in (("methods", asked[methods]), ("controls", asked[controls])):
        toward, away = _moved(part, "toward"), _moved(part, "away")
        told = "; ".join(filter(None, (toward, away and f"away: {away}")))
        found[name] = (told or "none") if gap.established else "—"
    return found


def _moved(students: pd.DataFrame, way: str) -> str:
    rows = students[students.side == way].sort_values("toward", ascending=way == "away")
    return ", ".join(
        f"{title_of(row.method)} {row.movement:+.2f}{' ★' if row.beyond > 0 else ''}"
        for row in rows.itertuples()
    )


def control_sentence(slopes: pd.DataFrame, direction: str) -> str:
    """Whether a teacher of the other family gives more of itself than one of the student's own."""
    rows = slopes[slopes.direction == direction].set_index("role")
    told = [
        f"{title_of(method)} {_slope(rows.loc[method])}, from a teacher of its own family "
        f"{_slope(rows.loc[twin])}"
        for method, twin in TWINS.items()
        if {method, twin} <= set(rows.index)
    ]
    return (
        f"{direction_title(direction)}, share of the cross-family teacher's whole profile of retentions that "
        f"a student takes over (slope, 95%): {'; '.join(told) or 'not in this study'}."
    )


def _slope(row: pd.Series) -> str:
    return with_interval(row.slope, row.low, row.high, "+.2f")


def _markdown(table: pd.DataFrame) -> str:
    rows = [table.columns, ["---"] * table.shape[1], *table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def with_more_epochs(longer, accepted: set[str]) -> tuple[str, pd.DataFrame]:
    """What a longer schedule says, and its :func:`movements`.

    Args:
        longer: :attr:`kdlib.study.study.Study.longer`.
        accepted: probes.
    """
    if not longer:
        return "No longer schedule was run.", pd.DataFrame()
    records = records_of(longer, accepted)
    moved = movements(pd.concat(transfer_table(part) for part in records.evidence.values()))
    told = [longer_sentence(longer, judge(records), moved), *map(_accuracies, records.evidence.values())]
    return " ".join(told), moved


def _accuracies(measures: Measures) -> str:
    """How accurate all are on clean images, and whether a bias could be owed to that alone."""
    clean = {role: measures[role, "accuracy", "clean"].mean() for role in measures.roles}
    told = ", ".join(f"{title_of(role)} {accuracy:.2f}" for role, accuracy in clean.items())
    if not CONTROLS.keys() & clean:
        told += (
            ". Biases change with accuracy, and no control was trained by this schedule: a student that is "
            "as biased as its teacher may only have learned less than the independent one"
        )
    return f"Accuracy, {direction_title(measures.direction)}: {told}."


def longer_sentence(longer, verdicts: dict[str, Verdict], moved: pd.DataFrame) -> str:
    """The claims that a longer schedule can judge, and the biases that each student takes over."""
    judged = {name: found for name, found in verdicts.items() if found.word != "not testable"}
    told = [f"{name} {found.word} ({found.because})" for name, found in judged.items()]
    sentences = [f"Of the claims: {'; '.join(told) or 'none can be judged'}."]
    for direction, part in moved.groupby("direction", sort=False):
        student = longer.profile["students"][longer.directions[direction]["student"]]
        differ = part[part.established].bias.nunique()
        surely = [_toward(title_of(name), rows) for name, rows in part.groupby("method", sort=False)]
        sentences.append(
            f"{direction_title(direction)}, {student['training']['epochs']} epochs: the teacher surely "
            f"differs in {differ} biases; surely toward it {'; '.join(surely)}."
        )
    return " ".join(sentences)


def _toward(student: str, rows: pd.DataFrame) -> str:
    toward = rows[rows.side == "toward"]
    biases = ", ".join(f"{row.bias} {row.movement:+.2f} of {row.gap:+.2f}" for row in toward.itertuples())
    return f"{student} in {len(toward) or 'none'}{': ' if biases else ''}{biases}"


def answer(
    study,
    verdicts: dict[str, Verdict],
    transfer: pd.DataFrame,
    slopes: pd.DataFrame,
    costs: pd.DataFrame,
    later: str,
) -> str:
    """The page as markdown.

    Args:
        transfer, slopes: of all directions, as :mod:`kdlib.report.tables` makes them.
        costs: of all directions, as :meth:`kdlib.study.study.Study.cost_table`.
        later: what :func:`with_more_epochs` says.
    """
    relative = (
        costs[~costs.role.isin(["teacher", *CONTROLS])].groupby(["direction", "role"])["relative"].mean()
    )
    cheapest, dearest = relative.drop("independent", level="role").agg(["idxmin", "idxmax"])
    moved = movements(transfer)
    parts = [
        "**In short.** " + headline(verdicts, moved),
        "**What was run.** " + setting_sentence(study),
        "**The claims of the original study.**",
        _markdown(verdict_table(verdicts)),
        "**Which biases a student takes over.** The teacher's distance from the independent student with its "
        "95% interval, and the students whose movement is surely toward it or, so marked, away from it. A "
        "dash: the teacher is not established to differ, so that nothing can be transferred. The controls "
        "are students to whom nothing of the other architecture's teacher comes but, at most, its mean "
        "entropy; ★: surely farther toward the teacher than every one of them. Intervals are not corrected "
        "for the number of comparisons.",
        _markdown(bias_table(moved)),
        "**With more epochs.** " + later,
        f"**At what cost.** An epoch costs from {relative[cheapest]:.2f} times the independent student's "
        f"({title_of(cheapest[1])}, {direction_title(cheapest[0])}) to {relative[dearest]:.2f} times "
        f"({title_of(dearest[1])}, {direction_title(dearest[0])}): time of the runs themselves, which other "
        "work on the machine may shift by a tenth; `python -m kdlib bench` takes turns instead.",
        "**Any teacher, or one of the other architecture?** "
        + " ".join(control_sentence(slopes, direction) for direction in study.directions),
        "**Where the original's conclusions came from.** " + original_sentence(original_table()),
        "**Limits.** One data set, one size of network and, but for the longer schedule, one budget; "
        "intervals are for new seeds and new images of the same data. The smallest effects that count were "
        "fixed beforehand: "
        + ", ".join(f"{name.replace('_', ' ')} {size:g}" for name, size in SMALLEST_EFFECTS.items())
        + ".",
    ]
    return "\n\n".join(parts)
