"""Takeaways computed from tables: ``findings.cost(table)`` renders the macro ``cost`` in ``templates/``.

The macros also cover what is missing: a study of one seed, of one direction, without controls, or of networks
that learned nothing.
"""

import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kdlib.bias import acceptance
from kdlib.report import hypotheses, made
from kdlib.report.claims import CLAIMS, Verdict, judge, records_of
from kdlib.report.figures.style import words
from kdlib.report.summaries import movements
from kdlib.report.tables import interval, sides, transfer_table
from kdlib.study.controls import CONTROLS, READ, REFERENCES


def listed(names: Iterable[str]) -> str:
    """ "LM, CRD and DIST"; "none" of nothing."""
    *first, last = list(names) or ["none"]
    return f"{', '.join(first)} and {last}" if first else last


def many(count: int, noun: str) -> str:
    """ "1 epoch", "2 epochs"."""
    return f"{count} {noun}{'s' * (count != 1)}"


TEXTS = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEXTS.filters |= {
    "words": words,
    "property": made.title_of_property,
    "listed": listed,
    "many": many,
    "interval": interval,
    "reasons": made.reasons,
    "rows": lambda table: list(table.itertuples()),
    "percent": "{:.1%}".format,
    "comma": "{:,}".format,
    "fixed": lambda value: "not defined" if pd.isna(value) else f"{value:.2f}",
    "first_number": lambda because: because.split("; ")[0],
}
TEXTS.globals |= {
    "limits": acceptance,
    "CLAIMS": CLAIMS,
    "controls": list(CONTROLS),
    "no_methods": [*REFERENCES, *CONTROLS],
    "read": READ,
    "sides": sides,
    "made": made,
}
MACROS = {}
for name in ("takeaways", "made"):
    MACROS |= vars(TEXTS.get_template(f"{name}.md.j2").module)


def _tell(macro: str, *arguments, **numbers) -> str:
    said = MACROS[macro](*arguments, **numbers)
    one_line = re.sub(r"(?<=[^\n|]) *\n(?=[^\n*|])", " ", said)  # a paragraph, a line
    return re.sub(r"\n\s*\n", "\n\n", one_line).strip()


def __getattr__(macro: str) -> Callable[..., str]:
    if macro not in MACROS:
        raise AttributeError(macro)
    return partial(_tell, macro)


def answer(study, verdicts: dict[str, Verdict], transfer: pd.DataFrame) -> tuple[str, str]:
    """The study on one page: the sentence above its figure, and the text below it."""
    specs = {member.spec.id for member in study.members()}
    later = {member.spec.id for member in study.longer.members()} - specs if study.longer else set()
    second = _tell("second_test", hypotheses.second_test(study.experiments))
    told = _tell("below", study, verdicts, second, runs=len(specs), later=len(later))
    return _tell("headline", movements(transfer)), told


def with_more_epochs(longer, checked: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """What a longer schedule says, and its :func:`kdlib.report.summaries.movements`.

    Args:
        longer: :attr:`kdlib.study.study.Study.longer`.
        checked: :func:`kdlib.bias.acceptance.acceptance_table`.
    """
    if not longer:
        return _tell("no_longer"), pd.DataFrame()
    records = records_of(longer, set(checked.probe[checked.accepted]))
    table = pd.concat(transfer_table(part) for part in records.evidence.values())
    table = movements(acceptance.mark(table, checked).query("accepted"))
    judged = {name: found for name, found in judge(records).items() if found.word != "not testable"}
    return _tell("longer", longer, judged, table, records.evidence), table
