import pytest
import torch

from kdlib.data import PROJECT
from kdlib.methods import METHODS, hyperparameters
from kdlib.names import UnknownName

from .common import TAUGHT, built, make_batch, terms_of

# The term that is the method's own, and what it falls to within 25 steps on one batch, as a share of its
# largest value: random memories and projections are easy to tell from images, so some fall from a peak.
LEARNS = {
    "lm": ("logits", 0.7),
    "crd": ("contrast", 0.75),
    "dkd": ("nontarget", 0.8),
    "dist": ("intra", 0.6),
    "lskd": ("logits", 0.3),
    "ofa": ("branches", 0.85),
    "fitnet": ("hint", 0.88),
    "cskd": ("dense", 0.7),
    "vlfkd": ("patch", 0.75),
    "deit": ("decision", 0.7),
    "sskd": ("transformed", 0.8),
    "capd": ("attention", 0.25),
    "label_smoothing": ("label", 0.9),
    "lm_shuffled": ("logits", 0.85),
}
SMALL = {"crd": {"negatives": 32}}


def make_pair(name, teacher, student, make_network):
    return make_network(student, seed=1, heads=METHODS[name].heads), make_network(teacher)


@pytest.mark.parametrize(("name", "teacher", "student"), TAUGHT)
def test_gradients_reach_student_and_method_but_never_the_teacher(
    name, teacher, student, make_network, shapes
):
    student, teacher = make_pair(name, teacher, student, make_network)
    method = built(name, student, teacher.eval(), shapes)
    terms = terms_of(method, student, teacher, make_batch(shapes, progress=0.5))
    assert all(term.shape == () and torch.isfinite(term) for term in terms.values())
    sum(terms.values()).backward()
    for part in (*student.parameters(), *method.shared_parameters().values()):
        assert part.grad is not None and torch.isfinite(part.grad).all()
    assert all(part.grad is None for part in teacher.parameters())


@pytest.mark.parametrize(("name", "teacher", "student"), TAUGHT)
def test_same_seed_gives_the_same_terms(name, teacher, student, make_network, shapes):
    student, teacher = make_pair(name, teacher, student, make_network)
    batch, found = make_batch(shapes), []
    for _ in range(2):
        method = built(name, student.eval(), teacher.eval(), shapes)
        with torch.no_grad():
            found.append(terms_of(method, student, teacher, batch))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][term], found[1][term]) for term in found[0])


@pytest.mark.parametrize(("name", "teacher", "student"), TAUGHT)
def test_networks_in_half_precision_give_float32_terms_close_by(name, teacher, student, make_network, shapes):
    student, teacher = make_pair(name, teacher, student, make_network)
    found = []
    for half in (False, True):
        method = built(name, student.eval(), teacher.eval(), shapes)
        found.append(terms_of(method, student, teacher, make_batch(shapes, progress=0.5), half))
    for term, value in found[1].items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(found[0][term].item(), rel=0.05, abs=0.02), term


@pytest.mark.parametrize(("name", "teacher", "student"), [case for case in TAUGHT if case[0] in LEARNS])
def test_the_methods_own_term_falls_on_a_repeated_batch(name, teacher, student, make_network, shapes):
    student, teacher = make_pair(name, teacher, student, make_network)
    teacher.eval()
    with torch.no_grad():
        teacher.backbone.get_classifier().weight *= 20  # untrained, it is nearly uniform: nothing to learn
    method = built(name, student, teacher, shapes, **SMALL.get(name, {}))
    for module in teacher.modules():  # nor would its answers differ without the batch's statistics
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train()
    batch = make_batch(shapes, count=32, progress=0.5)
    optimiser = torch.optim.AdamW([*student.parameters(), *method.shared_parameters().values()], 3e-3)
    term, factor = LEARNS[name]
    values = []
    for _ in range(25):
        terms = terms_of(method, student, teacher, batch)
        optimiser.zero_grad()
        sum(terms.values()).backward()
        optimiser.step()
        method.after_step()
        values.append(terms[term].item())
    assert values[-1] < factor * max(values)


def test_every_taught_method_is_shown_to_learn():
    assert LEARNS.keys() == {name for name, _, _ in TAUGHT}


def test_unknown_method_and_hyperparameter_are_named():
    with pytest.raises(UnknownName, match="unknown method 'crt'. Did you mean 'crd'.*independent, lm, crd"):
        hyperparameters("crt", {})
    with pytest.raises(UnknownName, match="hyper-parameter of lm 'temprature'. Did you mean 'temperature'"):
        hyperparameters("lm", {"temprature": 2})
    assert hyperparameters("lm", {"temperature": 2})["temperature"] == 2


def test_the_readmes_example_is_a_method(make_network, shapes):
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    example = next(part for part in text.split("```python\n") if "class Hints" in part).split("```")[0]
    names = {"__name__": "hints"}
    exec(compile(example, "README.md", "exec"), names)
    teacher, student = make_network("cnn").eval(), make_network("vit", seed=1)
    method = names["Hints"](weight=2.0)
    method.build(student, teacher, shapes.train)
    terms = terms_of(method, student, teacher, make_batch(shapes))
    sum(terms.values()).backward()
    assert set(terms) == {"label", "hint"}
    assert method.map.weight.grad is not None
