import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kdlib.messages import UnknownName
from kdlib.methods import METHODS, hyperparameters
from kdlib.models import Network
from kdlib.train import Trainer

from ..conftest import MODELS, RECIPES
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
    "class_means": ("logits", 0.85),
    "within_class": ("logits", 0.85),
    "rsd": ("redundancy", 0.7),
    "fitnet_last": ("hint", 0.8),
    "marginalise": ("logits", 0.85),
    "gate": ("logits", 0.85),
    "counter": ("logits", 0.85),
}
SMALL = {"crd": {"negatives": 32}}
READS = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "_unique2")


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


class NoReads(TorchDispatchMode):
    """Raises where the host reads a value, or a shape depends on one: there it would wait for a GPU."""

    def __init__(self, steps: list[Tensor]):
        super().__init__()
        self.steps = {step.data_ptr() for step in steps}  # an optimiser counts its steps on the host

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        places = args[1] if name in ("index", "index_put", "index_put_") else ()
        by_mask = any(place is not None and place.dtype == torch.bool for place in places)
        counts = name == "_local_scalar_dense" and args[0].data_ptr() in self.steps
        if not counts and (by_mask or name in READS):
            raise AssertionError(f"a step reads a value on the host: {function}")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "teacher", "student"), TAUGHT)
def test_a_step_reads_no_value_on_the_host(name, teacher, student, make_network, shapes):
    student, teacher = make_pair(name, teacher, student, make_network)
    method = built(name, student, teacher.eval(), shapes)
    run = Trainer(student, teacher, method, shapes.train, RECIPES["cnn"], seed=0)
    first, *others = run.batches(0)
    run.step(first)
    own = method.own_optimiser.state.values() if method.own_optimiser else []
    with NoReads([state["step"] for state in own]):
        for batch in others:
            run.step(batch)


def test_a_value_that_is_read_on_the_host_is_found():
    values = torch.arange(4.0)
    for read in (lambda: values[0].item(), lambda: values[values > 1], lambda: bool((values > 1).any())):
        with pytest.raises(AssertionError, match="reads a value on the host"), NoReads([]):
            read()


@pytest.mark.parametrize("name", ["dkd", "dist", "lskd", "lm_shuffled"])
def test_a_term_that_two_classes_leave_constant_is_refused(name, make_network, shapes):
    told = f"{METHODS[name].title} needs 3 classes or more, and these data have 2"
    student, teacher = (Network(MODELS["cnn"], 2, *shapes.statistics) for _ in range(2))
    with pytest.raises(ValueError, match=told):
        METHODS[name]().build(student, teacher, shapes.train)
    METHODS["lm"]().build(student, teacher, shapes.train)


def test_methods_that_need_more_classes_are_the_known_ones():
    needs = {name for name, method in METHODS.items() if method.least_classes > 2}
    assert needs == {"dkd", "dist", "lskd", "lm_shuffled"}


def test_every_taught_method_is_shown_to_learn():
    assert LEARNS.keys() == {name for name, _, _ in TAUGHT}


def test_unknown_method_and_hyperparameter_are_named():
    with pytest.raises(UnknownName, match="unknown method 'crt'. Did you mean 'crd'.*baseline, lm, crd"):
        hyperparameters("crt", {})
    with pytest.raises(UnknownName, match="hyper-parameter of lm 'temprature'. Did you mean 'temperature'"):
        hyperparameters("lm", {"temprature": 2})
    assert hyperparameters("lm", {"temperature": 2})["temperature"] == 2
