"""Profiles: what is read, what is refused, and in which words."""

import pytest

from kdlib.study.profile import PROFILES, digest_of, overridden_profile, profile_names
from kdlib.study.schema import read_profile
from kdlib.study.study import Study


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_is_valid(name):
    profile = read_profile(name)
    assert "vit_to_cnn" in (profile.get("directions") or profile["made"]["directions"])


def test_overrides_change_one_place_only():
    changed = read_profile("quick", ["students.cnn.training.learning_rate=1e-2"])
    assert changed["students"]["cnn"]["training"]["learning_rate"] == 0.01
    assert changed["teachers"] == read_profile("quick")["teachers"]


def test_a_recipe_for_all_reaches_networks_with_one_of_their_own():
    changed = read_profile("quick", ["training.epochs=1", "students.vit.training.epochs=2"])
    own = changed["students"] | {f"{name} teacher": told for name, told in changed["teachers"].items()}
    epochs = {name: told["training"].get("epochs") for name, told in own.items()}
    assert changed["training"]["epochs"] == 1 and epochs.pop("vit") == 2
    assert set(epochs.values()) == {None}  # as the profile's
    assert own["vit"]["training"]["learning_rate"] == 4e-3


@pytest.mark.parametrize(
    "given",
    [
        *({"seeds": [0]}, ["seeds=[0]"], ("seeds=[0]",)),
        *("seeds=[0]", "{seeds: [0]}", '{"seeds": [0]}', '["seeds=[0]"]'),  # papermill's -p and -r
    ],
)
def test_overrides_come_in_several_forms(given):
    assert read_profile("quick", given)["seeds"] == [0]


def test_whole_numbers_are_floats_where_floats_are_wanted():
    """A run's name is made of its numbers, and 1 and 1.0 are one recipe."""
    rate = read_profile("quick", ["training.learning_rate=1"])["training"]["learning_rate"]
    assert type(rate) is float


def test_a_temperature_may_be_below_1():
    hyper = read_profile("quick", ["hyper.lm.temperature=0.5"])["hyper"]
    assert hyper["lm"]["temperature"] == 0.5


def test_equal_profiles_have_equal_digests():
    one, other = (digest_of(overridden_profile("quick", text)) for text in ([], ["seeds=[0, 1, 2]"]))
    assert one == other != digest_of(overridden_profile("quick", ["seeds=[0]"]))


def test_what_is_null_is_left_out_with_its_networks():
    one = read_profile("quick", ["directions.cnn_to_vit=null", "data.train_images=null"])
    assert list(one["directions"]) == ["vit_to_cnn"] and one["data"]["train_images"] is None
    assert list(one["made"]["directions"]) == ["vit_to_cnn", "cnn_to_cnn", "vit_to_vit"]
    assert set(one["students"]) == set(one["teachers"]) == {"cnn", "vit"}  # which these use
    alone = read_profile("quick", ["directions.cnn_to_vit=null", "made=null"])
    assert not alone["made"] and list(alone["directions"]) == ["vit_to_cnn"]
    assert set(alone["students"]) == {"cnn"} and set(alone["teachers"]) == {"vit", "cnn"}
    left = read_profile("cifar10-cpu", ["directions.cnn_to_vit=null"])["made"]
    assert left == read_profile("cifar10-cpu")["made"] and "induced" in left


def test_a_recipe_in_part_leaves_the_rest_as_it_was():
    plain = read_profile("quick")
    whole = read_profile("quick", {"training": {"epochs": 9}})
    assert whole["training"] == plain["training"] | {"epochs": 9}
    assert whole == read_profile("quick", ["training.epochs=9"])
    assert read_profile("quick", {"training.epochs": 2, "training": {"epochs": 9}}) == whole  # the later one


def test_no_overrides_may_be_none_or_an_empty_text():
    assert read_profile("quick", None) == read_profile("quick", "") == read_profile("quick")


PLAN = "teacher: cnn, student: vit, methods: [lm]"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=1", "training.epoch: no such key. Did you mean 'epochs'?"),
        ("Trainig.epochs=1", "Trainig: no such key. Did you mean 'training'?"),
        ("students.cnn.model.nam=x", "students.cnn.model.nam: no such key. Did you mean 'name'?"),
        ("students.cnm.model.name=x", "students.cnm is in no direction; use it in one or drop it"),
        ("directions.cnn_to_vit.methods=[lm, CRT]", "methods.1: unknown method 'CRT'. Did you mean 'crd'?"),
        ("directions.cnn_to_vit.methods=[baseline]", "unknown method 'baseline'"),
        ("directions.cnn_to_vit.methods=[]", "directions.cnn_to_vit.methods: List should have at least 1"),
        ("directions.cnn_to_vit.methods=[lm, lm]", "directions.cnn_to_vit.methods: lm more than once"),
        ("directions.cnn_to_vit.teacher=cn", "directions.cnn_to_vit.teacher: no 'cn' in teachers. Did you"),
        ("directions.cnn_to_vit.controls=[rotation]", "unknown control 'rotation'. Did you mean 'rotations'"),
        ("directions.cnn_to_vit={teacher: cnn, student: vit}", "cnn_to_vit.methods: Field required"),
        (f"directions.cnn_to_vit={{{PLAN}, controls: [lm_matched]}}", "needs directions.cnn_to_vit.matched"),
        (
            f"directions={{../x: {{{PLAN}}}}}",
            "'../x' is not a direction; call it <teacher>_to_<student>, like",
        ),
        (f"directions.mine={{{PLAN}}}", "'mine' is not a direction"),
        ("made=[induced, wide, induced]", "induced more than once"),
        ("made.directions={a_to_b_to_c: []}", "'a_to_b_to_c' is not a direction"),
        ("made.directions={mine: []}", "'mine' is not a direction"),
        ("made.properties={noise: 5.0}", "Made.properties: dose of noise is 5.0; give the "),
        ("teachers.cnn.treatment={property: noise, dose: 5}", "teachers.cnn.treatment: dose of noise is 5.0"),
        ("directions.cnn_to_vit.methods=[LM]", "methods.0: unknown method 'LM'. Did you mean 'lm'?"),
        ("training.optimizer=SGD", "training.optimizer: unknown optimizer 'SGD'. Did you mean 'sgd'?"),
        ("training.optimiser=sgd", "training.optimiser: no such key. Did you mean 'optimizer'?"),
        ("training.learning_rate=-0.1", "training.learning_rate: Input should be greater than 0"),
        ("hyper.lm.temperature=0", "hyper-parameter of lm temperature is 0; it must be above 0"),
        ("hyper.sskd.similarity_temperature=-0.5", "similarity_temperature is -0.5; it must be above 0"),
        ("inside_images=1", "inside_images is 1, which has no interval; give 2 or more, or 0 for none"),
        ("seed=0", "seed: no such key. Did you mean 'seeds'?"),
        (
            "seeds='(0, 1)'",
            "seeds: Input should be a valid array (it is '(0, 1)'); write a list, like [0, 1]",
        ),
        ("hyper.lm.temprature=1", "unknown hyper-parameter of lm 'temprature'. Did you mean 'temperature'"),
        ("hyper.lm.temperature=hot", "temperature is 'hot'; it must be of type float"),
        ("hyper.lm.temperature=.inf", "temperature is inf; it must be a finite number"),
        ("hyper.crd.negatives=0", "negatives is 0; it must be at least 1"),
        ("probes=[clean, scramble_3]", "probes.1: unknown probe or series 'scramble_3'. Did you mean"),
        ("external=[geirhoss]", "unknown external stimuli 'geirhoss'. Did you mean 'geirhos'"),
        ("training.epochs=many", "training.epochs: Input should be a valid integer (it is 'many')"),
        ("training.epochs=true", "training.epochs: Input should be a valid integer (it is True)"),
        ("training.epochs=0", "training.epochs: Input should be greater than 0 (it is 0)"),
        ("students.vit.training.batch_size=-1", "students.vit.training.batch_size: Input should be greater"),
        ("training.learning_rate=0", "training.learning_rate: Input should be greater than 0"),
        ("training.clip=.nan", "training.clip: Input should be a finite number (it is nan)"),
        ("yardstick_images=5", "yardstick_images: Input should be greater than or equal to 32 (it is 5)"),
        ("test_images=0", "test_images: Input should be greater than 0"),
        ("seeds=3", "seeds: Input should be a valid array (it is 3)"),
        ("seeds=[]", "seeds: List should have at least 1 item"),
        ("seeds=[0, 0]", "seeds: 0 more than once"),
        ("students.cnn=[]", "students.cnn: Input should be an object"),
        ("students=3", "students: Input should be an object"),
        (
            "training.epochs.x=1",
            "override training.epochs.x: training.epochs is not a mapping",
        ),
        (
            "longer={training.epoch: 9}",
            "in longer, which longer={} switches off: .*training.epoch: no such",
        ),
        ("training.epochs", "override 'training.epochs' is not of the form key=value"),
        ("data={train_images: 100}", "data.name: Field required"),
        ("training={epochs: [}", "override training is not readable YAML"),
    ],
)
def test_a_wrong_override_is_told_what_is_right(override, message):
    with pytest.raises(ValueError) as told:
        read_profile("quick", [override])
    start, _, end = message.partition(".*")
    assert start in str(told.value) and end in str(told.value) and "\n" not in str(told.value)


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(ValueError) as told:
        read_profile("quick", ["training.epochs=0", "seeds=[1, 1]", "titel=x"])
    for key in ("training.epochs: ", "seeds: ", "titel: "):
        assert key in str(told.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "not readable YAML: Circular reference"),
        ("[" * 2000, "not readable YAML"),
        ("title: !!python/object/apply:os._exit [1]", "not readable YAML: could not determine"),
        ("[title]", "is not a mapping"),
        ("", "is not a mapping"),
        ((PROFILES / "quick.yml").read_text()[:700], "Field required"),
    ],
)
def test_a_file_that_is_no_profile_is_told(text, message, tmp_path):
    path = tmp_path / "profile.yml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as refusal:
        read_profile(str(path))
    assert "\n" not in str(refusal.value)


def test_an_unknown_profile_gets_the_list():
    with pytest.raises(ValueError, match="unknown profile 'Quik'. Did you mean 'quick'.*cifar10, "):
        Study("Quik")
    with pytest.raises(ValueError, match="no profile file quik.yml; give a path, or a name: cifar10, "):
        Study("quik.yml")
