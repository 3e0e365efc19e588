"""Rows about intervals over seeds and images, and about movements and gaps."""

from collections.abc import Callable

import numpy as np
from comparison_base import OTHER, Row


def our_crossed(x: dict) -> float:
    from kdlib.bias import crossed_interval

    return crossed_interval(x["crossed"]).error


def long_table(x: dict):
    import pandas as pd

    seeds, images = x["crossed"].shape
    long = pd.DataFrame({"y": x["crossed"].ravel(), "one": 1})
    return long.assign(seed=np.repeat(np.arange(seeds), images), image=np.tile(np.arange(images), seeds))


def their_mixed(x: dict) -> float:
    from statsmodels.formula.api import mixedlm

    parts = {"seed": "0 + C(seed)", "image": "0 + C(image)"}
    return float(
        mixedlm("y ~ 1", long_table(x), groups="one", vc_formula=parts, re_formula="0").fit().bse.iloc[0]
    )


def their_clusters(*names: str) -> Callable[[dict], float]:
    def value(x: dict) -> float:
        from statsmodels.formula.api import ols

        long = long_table(x)
        found = ols("y ~ 1", long).fit(
            cov_type="cluster", cov_kwds={"groups": long[list(names)].to_numpy().squeeze()}
        )
        return float(found.bse.iloc[0])

    return value


def our_ratio(x: dict) -> float:
    from kdlib.bias import ratio_interval

    return ratio_interval(*x["moves"][:2, :, None])[1]


def their_ratio(x: dict) -> float:
    """The end of ratio ± t σ, with σ to first order."""
    from scipy import stats
    from uncertainties import correlated_values

    moved, apart = x["moves"][:2]
    moved, apart = correlated_values([moved.mean(), apart.mean()], np.cov(moved, apart) / 5)
    share = moved / apart
    return float(share.n + stats.t.ppf(0.975, 4) * share.s)


def our_movement(x: dict) -> float:
    from kdlib.bias import transfer

    return transfer(*(part[:, None] for part in x["roles"])).movement.p


def their_movement(x: dict) -> float:
    from scipy import stats

    return float(stats.ttest_rel(x["roles"][0], x["roles"][1]).pvalue)


def our_slope(x: dict) -> float:
    """Mean over 200 draws of three networks that differ by noise alone, so that there is no transfer."""
    from kdlib.bias import profile_slopes

    return float(np.mean([profile_slopes(*draw[..., None]).mean() for draw in x["profiles"]]))


def their_slope(x: dict) -> float:
    from statsmodels.api import OLS

    def slope(student: np.ndarray, baseline: np.ndarray, teacher: np.ndarray) -> float:
        movement, gap = (student - baseline).mean(1), (teacher - baseline).mean(1)
        return OLS(movement, gap).fit().params[0]

    return float(np.mean([slope(*draw) for draw in x["profiles"]]))


STATSMODELS = "statsmodels 0.15.0"
INTERVALS = [
    Row(
        STATSMODELS,
        "mixedlm, seeds and images crossed, standard error",
        "statistics",
        our_crossed,
        their_mixed,
        tolerance=1e-3,
    ),
    Row(
        STATSMODELS,
        "ols, clusters of images, standard error",
        "statistics",
        our_crossed,
        their_clusters("image"),
        "Only new images, not new seeds. Ours covers both, as mixedlm does.",
        OTHER,
    ),
    Row(
        STATSMODELS,
        "ols, clusters of seeds and of images, standard error",
        "statistics",
        our_crossed,
        their_clusters("seed", "image"),
        "Both, but sums over a few seeds without their degrees of freedom (Cameron et al. 2011).",
        OTHER,
    ),
    Row(
        "uncertainties 3.2.3",
        "ratio of movement and gap, upper end",
        "statistics",
        our_ratio,
        their_ratio,
        "To first order in the gap's error, so symmetric. Fieller 1954: ours.",
        OTHER,
    ),
    Row("scipy 1.17.1", "ttest_rel, p of a movement, 5 seeds", "statistics", our_movement, their_movement),
    Row(
        STATSMODELS,
        "OLS of movements on gaps, slope where nothing is transferred",
        "statistics",
        our_slope,
        their_slope,
        "The baseline's noise is in both and passes for transfer. Ours joins only different seeds.",
        OTHER,
    ),
]
