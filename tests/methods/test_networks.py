"""Every method takes a pair of other families, or refuses it with a reason."""

import pytest
import torch

from kdlib.methods import METHODS
from kdlib.models import ModelSpec, Network

from .common import built, make_batch, terms_of

XCIT = ModelSpec("xcit_nano_12_p16_224", options={"embed_dim": 16, "num_heads": 2, "depth": 1})
PIT = ModelSpec(  # three stages of tokens
    "pit_ti_224",
    options={"base_dims": [8, 8, 8], "heads": [1, 2, 4], "depth": [1, 1, 1], "patch_size": 4, "stride": 8},
)
REFUSED = {
    "cskd": "CSKD needs a ViT student .* is not one",
    "vlfkd": "VLFKD needs at least 2 x 2 cells; pit_ti_224 has 1 x 1",
    "capd": "CAPD reads the attention of a plain ViT",
}
TAUGHT = [name for name, method in METHODS.items() if method.uses_teacher]


@pytest.mark.parametrize(("student", "teacher"), [(XCIT, PIT), (PIT, XCIT)], ids=["xcit", "pit"])
@pytest.mark.parametrize("name", TAUGHT)
def test_every_method_takes_other_families_or_says_why_not(name, student, teacher, shapes):
    classes = len(shapes.classes)
    student = Network(student, classes, *shapes.statistics, heads=METHODS[name].heads)
    teacher = Network(teacher, classes, *shapes.statistics).eval().requires_grad_(False)
    if name in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name]):
            built(name, student, teacher, shapes)
        return
    method = built(name, student, teacher, shapes)
    terms = terms_of(method, student, teacher, make_batch(shapes, progress=0.5))
    sum(terms.values()).backward()
    assert all(torch.isfinite(term) for term in terms.values())
    for part in student.parameters():
        assert part.grad is not None and torch.isfinite(part.grad).all()
