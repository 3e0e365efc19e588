"""What a run is for in a study: the teacher, the baseline, a method, or a control.

A control is a method with another teacher or with none. It tells what a method's effect is due to: any
teacher or one of the other architecture, soft targets alone, the images that the method makes, or its time.
"""

from dataclasses import dataclass, field

from kdlib.methods import METHODS

REFERENCES = ("teacher", "baseline")  # what every student is compared with
READ = "_read"  # after a method's name: its student's embedding, read by the teacher's own head
OTHERS = {"teacher": "Teacher", "ceiling": "Trained on changed images"}  # that no method trains


@dataclass(frozen=True)
class Role:
    """How a direction's student is trained."""

    title: str  # for tables and figures
    method: str
    teacher: str | None = "teacher"  # which of the direction's networks teaches, by its key in the profile
    hyper: dict = field(default_factory=dict)  # overrides the profile's
    epochs: float = 1.0  # times the student's
    question: str = ""  # of a control: what it separates


ANY = "any teacher, or one of the other architecture?"
OWN = "a teacher of the student's own architecture, as accurate as the other architecture's"
LESS = "how biases change with accuracy alone"
TWICE = "twice the steps without a teacher: more than most methods cost"
SEVEN = "seven times the steps without a teacher: what SSKD costs"
BARE = ("baseline", None)  # method and teacher
TURNED, CHANGED = {"augmentation": "rotations"}, {"augmentation": "transformed"}
# fmt: off
CONTROLS = {
    "lm_same_family": Role("LM, same family", "lm", "same_family", question=ANY),
    "crd_same_family": Role("CRD, same family", "crd", "same_family", question=ANY),
    "lm_matched": Role("LM, self-distilled", "lm", "matched", question=OWN),
    "label_smoothing": Role("Label smoothing", "label_smoothing",
                            question="soft targets without the teacher's knowledge"),
    "lm_shuffled": Role("LM, shuffled classes", "lm_shuffled",
                        question="the teacher's confidence without its class similarities"),
    "lm_strong": Role("LM, weight 0.9", "lm", hyper={"label_weight": 0.1, "logits_weight": 0.9},
                      question="the method, or the weight of the teacher's predictions?"),
    "gate_confidence": Role("Gate by confidence", "gate", hyper={"by": "confidence"},
                            question="the cue, or the teacher's confidence?"),
    "sskd_no_similarity": Role("SSKD, no similarities", "sskd", hyper={"similarity_weight": 0.0},
                               question="the effect of SSKD's self-supervised part"),
    "sskd_upright": Role("SSKD, upright logits", "sskd", hyper={"transformed_weight": 0.0},
                         question="the effect of the teacher's logits on rotated images"),
    "rotations": Role("Baseline, rotations", *BARE, TURNED, question="SSKD's images without its teacher"),
    "transformed": Role("Baseline, transformed", *BARE, CHANGED,
                        question="CAPD's images without its teacher"),
    "capd_no_discriminator": Role("CAPD, no discriminator", "capd", hyper={"adversarial_weight": 0.0},
                                  question="the effect of adversarial training"),
    "fewest_epochs": Role("Baseline, epochs × 0.2", *BARE, epochs=0.2, question=LESS),
    "fewer_epochs": Role("Baseline, epochs × 0.6", *BARE, epochs=0.6, question=LESS),
    "more_epochs": Role("Baseline, epochs × 2", *BARE, epochs=2, question=TWICE),
    "most_epochs": Role("Baseline, epochs × 7", *BARE, epochs=7, question=SEVEN),
}
# fmt: on

# Controls whose students get nothing from the other architecture's teacher, or only its mean entropy.
WITHOUT_IT = [name for name, role in CONTROLS.items() if role.teacher != "teacher"] + ["label_smoothing"]


def roles() -> dict[str, Role]:
    """Every role that a student can have, by name: the baseline, the methods, the controls."""
    taught = {name: Role(method.title, name) for name, method in METHODS.items() if method.uses_teacher}
    return {"baseline": Role("Baseline", "baseline", None)} | taught | CONTROLS


def title_of(role: str) -> str:
    """What a figure calls a role."""
    method = role.removesuffix(READ)
    return OTHERS.get(role) or roles()[method].title + (", teacher's head" if method != role else "")


def direction_title(name: str) -> str:
    """ "cnn_to_vit" as "CNN → ViT"."""
    families = {"cnn": "CNN", "vit": "ViT"}
    return " → ".join(families.get(part, part) for part in name.split("_to_"))
