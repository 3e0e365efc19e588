"""The rows of docs/other_libraries.md; those of some subjects are in files of their own."""

import comparison_ours as ours
import comparison_theirs as theirs
from comparison_answers import ANSWERS
from comparison_base import OTHER, Row, T
from comparison_images import IMAGES
from comparison_inside import INSIDE
from comparison_intervals import INTERVALS
from comparison_losses import OTHER_LOSSES

TORCHDISTILL, TIMM, KD_LIB = "torchdistill 1.1.5", "timm 1.0.31", "KD-Lib 0.0.32"
STATSMODELS, NETCAL = "statsmodels 0.15.0", "netcal 1.4.0"
GUO = "Bins of equal width, where sampling error counts as miscalibration, as Guo et al. 2017 define it. "
LOSSES = [
    Row(
        TORCHDISTILL,
        "KDLoss, alpha 0.1",
        "distillation",
        lambda x: 0.1 * ours.cross_entropy(x) + 0.9 * ours.divergence(x),
        theirs.torchdistill("KDLoss", temperature=T, alpha=0.1),
    ),
    Row(
        TORCHDISTILL,
        "KDLoss, alpha 0",
        "distillation",
        ours.divergence,
        theirs.torchdistill("KDLoss", temperature=T, alpha=0.0),
        "T² and beta are left out if alpha is 0 or labels are missing. Hinton et al. 2015: T² KL, ours.",
    ),
    Row(
        TORCHDISTILL,
        "LogitStdKDLoss, alpha 0.5, beta 9, T 2",
        "distillation",
        ours.our_lskd,
        theirs.torchdistill("LogitStdKDLoss", temperature=2.0, alpha=0.5, beta=9.0),
    ),
    Row(TORCHDISTILL, "DISTLoss", "distillation", ours.our_dist, theirs.torchdistill("DISTLoss", tau=T)),
    Row(
        TORCHDISTILL,
        "DISTPlusLoss, channel term of equal features",
        "distillation",
        ours.our_channels,
        theirs.their_channels,
        "It is the correlation, not 1 - correlation, so minimising it drives the channels apart. "
        "Huang et al. 2022: 1 - ρ, as our correlation distance.",
    ),
    Row(TORCHDISTILL, "CRDLoss, negatives given", "distillation", ours.our_contrast, theirs.their_contrast),
    Row(
        TORCHDISTILL,
        "SSKDLoss, similarities, all rows kept",
        "distillation",
        lambda x: ours.our_ranked(x, 0.5, 1.0, True),
        theirs.their_ranked([0, 0, 1, 0], 1.0),
    ),
    Row(
        TORCHDISTILL,
        "SSKDLoss, rotated images, all rows kept",
        "distillation",
        lambda x: ours.our_ranked(x, 4.0, 1.0, False),
        theirs.their_ranked([0, 0, 0, 1], 1.0),
    ),
    Row(
        TORCHDISTILL,
        "SSKDLoss, rotated images, half of the wrong rows kept",
        "distillation",
        lambda x: ours.our_ranked(x, 4.0, 0.5, False),
        theirs.their_ranked([0, 0, 0, 1], 0.5),
        "Which of equally wrong rows are kept is left to an unstable sort; with a stable one both agree to "
        "the last digit. Xu et al. 2020 don't say; ours is stable.",
    ),
    Row(
        TIMM,
        "LogitDistillationTask, networks of one normalisation",
        "distillation",
        ours.divergence,
        theirs.their_timm,
    ),
    Row(
        TIMM,
        "LogitDistillationTask, the teacher's images: deviation over the student's",
        "distillation",
        lambda x: 1.0,
        lambda x: theirs.their_timm(x, 0.5, seen_only=True),
        "Both networks' pretrained_cfg (here of std 0.25 and 0.5) decide, not how the data were normalised. "
        "Ours shows both networks the same pixels and normalises in each.",
    ),
    Row(
        "textbrewer 0.2.1.post1",
        "kd_ce_loss, norm of the gradient",
        "distillation",
        ours.our_gradient,
        theirs.their_textbrewer,
        "Cross-entropy without T²: 16 times smaller at T 4. Hinton et al. 2015, section 2.1: with T², ours.",
        OTHER,
    ),
    Row(
        "torch 2.15.0",
        "T² KLDivLoss()",
        "distillation",
        ours.divergence,
        theirs.their_divergence_mean,
        "The default averages over classes too: 10 times smaller. A divergence is their sum, ours.",
        OTHER,
    ),
    Row(
        "nvidia-modelopt 0.47.0",
        "LogitsDistillationLoss",
        "modelopt",
        ours.divergence,
        theirs.their_modelopt,
        'The same default, 10 times smaller; reduction="batchmean" agrees. Hinton et al. 2015: ours.',
    ),
    Row(
        KD_LIB,
        "VanillaKD, norm of the gradient",
        "kd-lib",
        ours.our_gradient,
        theirs.kd_lib("vanilla", "VanillaKD", True, distil_weight=1.0),
        "Squared error of softened probabilities. Hinton et al. 2015: T² KL, ours.",
    ),
    Row(
        KD_LIB,
        "ProbShift where the student is the teacher",
        "kd-lib",
        lambda x: ours.divergence({**x, "student": x["teacher"]}),
        theirs.kd_lib("KA", "ProbShift", False, ka_weight=1.0),
        "Probabilities stand for log-probabilities, in exchanged order, and the least loss is elsewhere, "
        "near uniform answers. A divergence is 0 here, ours.",
    ),
]
SIMILARITY = [
    Row("ckatorch 1.0.3", "cka_batch", "similarity", ours.our_cka, theirs.ckatorch),
    Row(
        "ckatorch 1.0.3",
        "cka_base",
        "similarity",
        ours.our_cka,
        lambda x: theirs.ckatorch(x, unbiased=False),
        "Biased by default, as Kornblith et al. 2019 define it; near 1 for unrelated features of many units. "
        "Nguyen et al. 2021 correct for it, ours.",
        OTHER,
    ),
    Row(
        "ckatorch 1.0.3",
        'cka_base, unbiased=True, method="hsic"',
        "similarity",
        ours.our_cka,
        lambda x: theirs.ckatorch(x, unbiased=True, method="hsic"),
        "unbiased has no effect with this method. Song et al. 2012: ours.",
    ),
    Row("torch-cka 0.21", "CKA._HSIC", "similarity", ours.our_cka, theirs.their_torch_cka),
    Row("pytorch-cka 1.1.3", "cka_from_features", "similarity", ours.our_cka, theirs.their_pytorch_cka),
    Row(
        "pytorch-cka 1.1.3",
        "cka_from_features, independent features",
        "similarity",
        lambda x: ours.our_cka(x, "independent"),
        lambda x: theirs.their_pytorch_cka(x, "independent"),
        "Estimates below 0 are set to 0, so that a mean of many is above 0 where nothing is shared. "
        "Song et al. 2012: unbiased, ours.",
    ),
    Row("cka-pytorch 1.1.3", "hsic1", "similarity", ours.our_cka, theirs.their_cka_pytorch),
    Row("dcor 0.7", "u_product of u_centered inner products", "similarity", ours.our_cka, theirs.their_dcor),
    Row(
        "dcor 0.7",
        "u_distance_correlation_sqr",
        "similarity",
        ours.our_cka,
        theirs.their_distances,
        "Of distances in place of inner products, so that it is 0 for independent features alone. Székely "
        "and Rizzo 2013; ours is Kornblith et al. 2019's.",
        OTHER,
    ),
    Row(
        "repsim 0.1.5",
        'cka, linear, estimator "song"',
        "similarity",
        ours.our_cka,
        lambda x: theirs.their_repsim(x, kernel_type="linear", estimator="song"),
        "An unbiased HSIC over biased ones: a copy has less than 1. Nguyen et al. 2021: all unbiased, ours.",
    ),
    Row(
        "repsim 0.1.5",
        "cka",
        "similarity",
        ours.our_cka,
        theirs.their_repsim,
        "An RBF kernel and the biased estimator by default. Kornblith et al. 2019 have both kernels; ours is "
        "linear and unbiased.",
    ),
]
ERRORS = [
    *(
        Row(package, function, "statistics", ours.our_kappa, theirs.their_kappa(package.split()[0]))
        for package, function in (
            ("scikit-learn 1.9.1", "cohen_kappa_score of hits"),
            (STATSMODELS, "cohens_kappa of hits"),
            ("torchmetrics 1.9.0", "BinaryCohenKappa of hits"),
        )
    ),
    Row(
        "torchmetrics 1.9.0",
        "MulticlassCalibrationError, 15 bins",
        "statistics",
        ours.our_calibration,
        theirs.their_calibration("torchmetrics"),
        GUO + "Ours: bins filled equally, less that error (Kumar et al. 2019).",
        OTHER,
    ),
    Row(
        NETCAL,
        "ECE, 15 bins",
        "statistics",
        ours.our_calibration,
        theirs.their_calibration("netcal"),
        GUO + "It agrees with torchmetrics.",
        OTHER,
    ),
    Row(
        NETCAL,
        "ECE, 15 bins, equal_intervals=False",
        "statistics",
        ours.our_calibration,
        theirs.their_calibration("netcal", equal_intervals=False),
        "Bins filled equally, as ours, without the correction of Kumar et al. 2019.",
        OTHER,
    ),
    Row(
        "uncertainty-calibration 0.1.4",
        "get_calibration_error",
        "statistics",
        ours.our_calibration,
        theirs.their_calibration("uncertainty-calibration"),
        "Root mean square over bins and classes. Ours is the mean gap of the answer's class; Kumar et al. "
        "2019 define both.",
    ),
    Row(
        "scikit-learn 1.9.1",
        "log_loss",
        "statistics",
        ours.our_likelihood,
        theirs.their_likelihood,
        "Ours counts a confidence below 6e-8 as 6e-8, the least that float16 records hold.",
    ),
    Row(
        STATSMODELS,
        'proportion_confint, method "wilson", lower end',
        "statistics",
        ours.our_wilson,
        theirs.their_proportion("wilson"),
    ),
    Row(
        STATSMODELS,
        "proportion_confint, lower end",
        "statistics",
        ours.our_wilson,
        theirs.their_proportion("normal"),
        "The normal approximation by default, which fails near 0 and 1. Wilson 1927: ours.",
        OTHER,
    ),
]
STATISTICS = [
    Row(
        STATSMODELS,
        "DescrStatsW.tconfint_mean, width, 5 seeds",
        "statistics",
        ours.our_width,
        theirs.their_width,
    ),
    Row(
        "scipy 1.17.1",
        "bootstrap (BCa), width, 5 seeds",
        "statistics",
        ours.our_width,
        theirs.their_bootstrap,
        "Only resamples of 5 values: it covers 0.83 where 0.95 is meant. Student 1908: ours.",
    ),
    Row(
        "rliable 1.2.0",
        "get_interval_estimates, width, 5 runs of a task",
        "rliable",
        ours.our_width,
        theirs.their_rliable,
        "Percentiles of a bootstrap, as narrow; random_state has no effect. Student 1908: ours.",
    ),
    Row(
        STATSMODELS,
        "anova_lm, mean squares of seeds and of images",
        "statistics",
        ours.our_squares,
        theirs.their_squares,
    ),
    Row(
        STATSMODELS,
        "multipletests, Holm, of .01, .02, .04: the second",
        "statistics",
        ours.our_holm("p"),
        theirs.their_holm("statsmodels", "p"),
    ),
    Row(
        STATSMODELS,
        "multipletests, Holm, with a fourth that is undefined",
        "statistics",
        ours.our_holm("p_undefined"),
        theirs.their_holm("statsmodels", "p_undefined"),
        "The undefined test counts. Holm 1979 is about tests that were made: ours.",
    ),
    Row(
        "pingouin 0.7.0",
        "multicomp, Holm, with a fourth that is undefined",
        "statistics",
        ours.our_holm("p_undefined"),
        theirs.their_holm("pingouin", "p_undefined"),
    ),
]
ROWS = {
    "Distillation losses": LOSSES + OTHER_LOSSES,
    "Receptive fields, attention and interactions": INSIDE,
    "Similarity of representations": SIMILARITY,
    "Corruptions, moved patches and suppression": IMAGES,
    "Answers, errors and confidence": ERRORS + ANSWERS,
    "Intervals and families of tests": STATISTICS + INTERVALS,
}
