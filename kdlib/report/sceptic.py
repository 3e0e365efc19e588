"""What a sceptic would ask: each objection of sceptic.yml with its number, and the detectable effects."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from kdlib.bias.influence import Measures
from kdlib.bias.measures import SMALLEST_EFFECTS
from kdlib.bias.statistics import crossed_interval, holm, with_interval
from kdlib.bias.transfer import ratio_influence
from kdlib.report import made
from kdlib.report.claims import Records
from kdlib.report.summaries import movements
from kdlib.report.tables import schedule_table, sides, slopes
from kdlib.study.controls import CONTROLS
from kdlib.study.known_bias import yardstick_table
from kdlib.study.made import Made
from kdlib.study.study import Study

QUESTIONS = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))
NEGLIGIBLE = made.RULES["hypotheses"]["H3"]["contradicts"]["inside"]  # a tau too small to matter
REMOVAL = "texture bias: robustness to texture removal"
Parts = list[np.ndarray]


@dataclass(frozen=True)
class Evidence:
    """What a study can answer with; its methods are the answers of sceptic.yml.

    An answer is a text, or matrices D (seeds, images), of whose mean the interval is given. It is empty where
    the study did not train what it needs.
    """

    study: Study
    records: Records
    transfer: pd.DataFrame  # kdlib.report.tables.transfer_table of all directions, with ``accepted``

    def beyond_accuracy(self) -> str:
        lines = pd.concat(map(schedule_table, self.records.evidence.values()))
        lines = lines.rename(columns={"role": "method"}).dropna(subset="low")
        found = self.transfer[(sides(self.transfer) == "toward") & self.transfer.accepted]
        found = found[(found.measure == "retention") & ~found.method.isin(CONTROLS)]
        found = found.merge(lines, on=["direction", "method", "probe"])
        return _count(np.where(found.gap > 0, found.low > 0, found.high < 0)) if len(lines) else ""

    def slope_beyond(self, control: str) -> Parts:
        return _least(slopes(part, "lm") - slopes(part, control) for part in self._parts("lm", control))

    def fidelity(self) -> Parts:
        asked = ("agreement", "clean")
        return _least(part["lm", *asked] - part["baseline", *asked] for part in self._parts("lm"))

    def least_cue_rate(self) -> Parts:
        asked = ("cue_rate", "cue_conflict")
        known = [part for part in self._parts() if asked in part.questions]
        roles = [(part, role) for part in known for role in part.roles if role not in CONTROLS]
        return _least(part[role, *asked] - 2 * part.chance for part, role in roles)

    def confirmed_by_removal(self) -> str:
        moves = self._moves()
        shape, removed = (moves[moves.property == name] for name in ("shape bias", REMOVAL))
        both = shape[shape.side == "toward"].merge(
            removed, on=["direction", "method"], suffixes=("", "_other")
        )
        same = np.where(both.movement > 0, both.movement_low_other > 0, both.movement_high_other < 0)
        return _count(same) if len(shape) and len(removed) else ""

    def known_networks(self) -> str:
        images, store = self.study.yardstick_images, self.study.store
        table = yardstick_table(store, images).query("measure == 'shape bias'") if images else pd.DataFrame()
        means = table[["lowest", "highest"]].mean(axis=1) if len(table) else []  # of two seeds
        return " and ".join(with_interval(value, np.nan, np.nan, ".2f") for value in means)

    def tau_beyond(self, role: str, other: str) -> Parts:
        """In the first experiment that has both."""
        for one in self.study.experiments:
            ours, others = self._taus(role, one), self._taus(other, one)
            both = [key for key in ours if key in others and made.crosses(key[0])]
            if both:
                return [ours[key] - others[key] for key in both]
        return []

    def tau_crossing(self, role: str) -> Parts:
        taus = self._taus(role, self.study.made) if self.study.made else {}
        within = {key: ("{0}_to_{0}".format(key[0].split("_to_")[0]), key[1]) for key in taus}
        return [taus[key] - taus[own] for key, own in within.items() if key != own and own in taus]

    def shared_seeds(self) -> str:
        studies = [self.study, *(one.study for one in self.study.experiments)]
        taught = {spec.id: spec for study in studies for spec in study.specs() if spec.teacher}.values()
        return _count([spec.seed == spec.teacher.seed for spec in taught])

    def multiplicity(self) -> str:
        p = self.compared().p.dropna()
        return f"{_count(p < 0.05)}; after Holm {(holm(p) < 0.05).sum()}" if len(p) else ""

    def sign_flip(self) -> str:
        return f"{2.0 ** (1 - len(self.study.seeds)):.3f} with {len(self.study.seeds)} seeds"

    def compared(self) -> pd.DataFrame:
        """What figures compare: measure, direction, width (half of the interval), smallest that counts, p."""
        moves = self._moves().assign(smallest=lambda table: table.measure.map(SMALLEST_EFFECTS))
        moves["width"] = (moves.movement_high - moves.movement_low) / 2
        found = moves.drop(columns="measure").rename(columns={"property": "measure"})
        if self.study.made:
            taus = made.methods(made.across(self.study.experiments))
            taus = taus.assign(width=(taus.high - taus.low) / 2, smallest=NEGLIGIBLE, p=taus.p_none)
            found = pd.concat([found, taus.assign(measure="tau, " + taus.asked)], ignore_index=True)
        return found[["measure", "direction", "width", "smallest", "p"]]

    def _moves(self) -> pd.DataFrame:
        """Of methods, in the properties that the study is about."""
        found = movements(self.transfer)
        return found[~found.method.isin(CONTROLS)]

    def _parts(self, *roles: str) -> Iterator[Measures]:
        return (part for part in self.records.evidence.values() if {*roles} <= {*part.roles})

    def _taus(self, role: str, experiment: Made) -> dict[tuple[str, str], np.ndarray]:
        """By direction and property, of primary measures; NaN where tau is not testable."""
        return {
            key[:2]: ratio_influence(change.moved, change.apart)
            if change.found.established
            else np.full_like(change.moved, np.nan)
            for key, change in made.changes(experiment).items()
            if key[2] == role and key[3] == made.RULES["properties"][key[1]][0]
        }


def objection_table(evidence: Evidence) -> pd.DataFrame:
    """Each objection, what is measured, the number that answers it, and what that means."""
    rows = []
    for asked in QUESTIONS.values():
        name, *arguments = asked.get("answer", [""])
        found = getattr(evidence, name)(*arguments) if name else "not answered here"
        means = asked.get("means", "")
        if not found:
            found, means = "not run", ""
        elif not isinstance(found, str):
            defined = [part for part in found if np.isfinite(part).all()]
            interval = crossed_interval(np.mean(made.aligned(defined or found[:1]), axis=0))
            means = asked["above" if interval.low > 0 else "below" if interval.high < 0 else "across"]
            of = f", mean of {len(defined)} of {len(found)} comparisons" if len(found) > 1 else ""
            found = with_interval(interval.estimate, interval.low, interval.high, "+.2f") + of
        rows.append((asked["objection"], asked["measured"], found, means))
    return pd.DataFrame(rows, columns=["objection", "measured", "number", "it means"])


def power_table(evidence: Evidence) -> pd.DataFrame:
    """By measure: comparisons, the effect that could be seen, and the smallest one that counts.

    The half-width of a 95% interval, since a true effect as large as that is significant about every second
    time: the median over methods, in the direction where it is largest.
    """
    known = evidence.compared().dropna(subset="width")
    columns = {
        "comparisons": ("width", "count"),
        "seen": ("width", "median"),
        "counts": ("smallest", "first"),
    }
    each = known.groupby(["measure", "direction"], sort=False).agg(**columns)
    table = each.groupby("measure", sort=False).agg({"comparisons": "sum", "seen": "max", "counts": "first"})
    return table.rename(columns={"seen": "could be seen", "counts": "would count"}).reset_index()


def _count(true: Iterable[bool]) -> str:
    return f"{sum(true)} of {len(true)}"


def _least(parts: Iterable[np.ndarray]) -> Parts:
    """The part with the least mean; one that is not defined comes last."""
    return sorted(parts, key=lambda part: np.nan_to_num(np.mean(part), nan=np.inf))[:1]
