"""Published records: the same tables without weights, images or training."""

import json

import numpy as np
import pandas as pd
import pytest

from kdlib.data import DataError
from kdlib.report.tables import measure_table, transfer_table
from kdlib.study import Study, known_bias, runs, tables
from kdlib.study.internals import inside_table, likeness_table
from kdlib.study.known_bias import yardstick_table
from kdlib.study.records import publish

from .common import run_cells
from .test_preflight import SMALL

MADE_HERE = ((runs, "fit"), (runs, "load"), (runs, "digest"), (known_bias, "_make"))


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory):
    return publish(finished, tmp_path_factory.mktemp("results") / "minimal")


@pytest.fixture(scope="module")
def known(finished) -> pd.DataFrame:
    return yardstick_table(finished.store, finished.yardstick_images)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The data root of another machine; its pictures are drawn once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def published(folder, minimal, elsewhere, tmp_path, monkeypatch):
    """The study on another machine, where nothing can be trained, and no image is what it was here.

    The pictures alone are drawn anew there: they come by another way than what is looked up.
    """
    for module, name in MADE_HERE:
        monkeypatch.setattr(module, name, None)
    return Study(minimal["profile"], tmp_path / "out", elsewhere, results=folder, quiet=True)


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Equal but for rounding, also where a text holds a number for each seed, with four decimals."""
    tables = [table.drop(columns="per_seed", errors="ignore") for table in (one, other)]
    pd.testing.assert_frame_equal(*tables, check_dtype=False, rtol=1e-4, atol=1e-6)
    if "per_seed" in one:
        seeds = [table.per_seed.str.split(expand=True).astype(float) for table in (one, other)]
        pd.testing.assert_frame_equal(*seeds, rtol=0, atol=2e-4)


def test_a_run_that_was_stopped_before_its_answers_is_published_with_them(tmp_path):
    made = {"properties": {"noise": 0.2}, "methods": ["lm"], "directions": {"cnn_to_vit": []}}
    study = Study("quick", tmp_path / "outputs", tmp_path, SMALL | {"made": made}, quiet=True)
    study.train()
    (run,) = study.made.runs("cnn_to_vit", "noise")["lm"]
    (answer,) = run.path.glob("predictions/clean-*.npz")
    answer.unlink()
    folder = publish(study, tmp_path / "results" / "quick")
    with np.load(folder / "runs" / run.spec.id / "kept.npz") as kept:
        assert f"predictions/{answer.stem}/predicted" in kept


def test_every_table_is_the_same(finished, known, published):
    for direction in finished.directions:
        theirs, ours = finished.evidence(direction), published.evidence(direction)
        same(measure_table(theirs), measure_table(ours))
        same(transfer_table(theirs), transfer_table(ours))
        for table in (inside_table, likeness_table):
            same(table(finished, direction), table(published, direction))
        for name in ("history_table", "cost_table", "teacher_table", "network_table"):
            same(*(getattr(tables, name)(study, direction) for study in (finished, published)))
    for table in (tables.data_table, tables.probe_table):
        same(table(finished), table(published))
    same(known, yardstick_table(published.store, published.yardstick_images))


def test_all_notebooks_run_from_records(published, monkeypatch):
    """Without what trains, loads or draws a study's images."""
    told = run_cells(published, monkeypatch)
    assert "The records of this study contain predictions for" in told and "C5" in told


def test_records_hold_neither_images_nor_weights(folder):
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    texts = {"spec.json", "record.json", "history.csv", "timing.csv", "manifest.json"}
    assert names == {"study.json", "labels.npz", "kept.npz"} | texts
    for path in folder.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as stored:
            assert all(stored[name].dtype != np.float64 for name in stored.files)


def test_pictures_are_drawn_where_the_records_have_none(published):
    data, stimuli = published.pictures
    assert data.spec.name == "shape_texture"
    assert list(stimuli) == published.probes
    assert all(made.images.shape[1:] == (3, 32, 32) for made in stimuli.values())
    assert published.augmented(0).shape == (8, 3, 32, 32)


def test_what_the_records_lack_is_named(folder, minimal, published, tmp_path):
    run = published.finished()[0]
    with pytest.raises(RuntimeError, match="came without weights, so it cannot make new predictions"):
        run.network()
    changes = {"probes": ["clean", "grey"], "inside_images": 5}
    other = Study(
        minimal["profile"], tmp_path / "out", tmp_path / "data", changes, results=folder, quiet=True
    )
    with pytest.raises(RuntimeError, match="have no predictions on grey; leave it out"):
        other.stimuli  # noqa: B018
    with pytest.raises(RuntimeError, match="are of 2 and 60 images, not 5"):
        other.few_digest  # noqa: B018
    with pytest.raises(RuntimeError, match="must lie in a folder called quick, and .*minimal isn.t"):
        Study("quick", tmp_path / "out", tmp_path / "data", results=folder)
    with pytest.raises(ValueError, match="holds no published records: expected study.json"):
        Study(minimal["profile"], tmp_path / "out", tmp_path / "data", results=tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hyper.lm.temperature": 2},
            r"\d+ of \d+ runs are not in the published records, the first: lm: .*; set results to None",
        ),
        ({"test_images": 30}, "are of 2 and 60 images, not 30"),
    ],
)
def test_what_was_changed_is_refused_and_not_ignored(changes, message, folder, minimal, tmp_path):
    study = Study(minimal["profile"], tmp_path / "out", tmp_path, changes, results=folder, quiet=True)
    with pytest.raises(DataError, match=message):
        study.evidence("cnn_to_vit")


def test_a_damaged_record_is_told_and_nothing_is_written_among_records(folder, published):
    run = published.finished()[0]
    content = (run.path / "history.csv").read_text()
    (run.path / "history.csv").write_text("epoch\n")
    with pytest.raises(DataError, match="is damaged .history.csv changed.; download the records again"):
        published.store.load(run.spec)
    (run.path / "history.csv").write_text(content)
    published.evidence("cnn_to_vit")
    assert {path.name for path in (folder / "runs").iterdir()} == {spec.id for spec in published.specs()}


@pytest.mark.parametrize("name", ["labels.npz", "study.json"])
def test_a_damaged_file_of_all_runs_is_told(name, folder, minimal, tmp_path):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:200])
    with pytest.raises(DataError, match=f"record .*{name} is damaged .*; download the records again"):
        Study(minimal["profile"], tmp_path, tmp_path, results=folder).dataset  # noqa: B018
    (folder / name).write_bytes(content)


def test_records_may_be_given_as_the_working_directory(folder, minimal, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    assert Study(minimal["profile"], tmp_path, tmp_path, results=".").store.folder == folder


def test_seeds_may_be_read_in_another_order_or_in_part(folder, minimal, published, tmp_path):
    asked = {"profile": minimal["profile"], "output": tmp_path, "results": folder}
    turned, last = (Study(**asked, overrides={"seeds": seeds}) for seeds in ([1, 0], [1]))
    table = inside_table(published, "cnn_to_vit")
    order = ["role", "seed", "measure", "place", "value"]
    same(*(one.sort_values(order, ignore_index=True) for one in (table, inside_table(turned, "cnn_to_vit"))))
    rest = inside_table(last, "cnn_to_vit")
    theirs = table[table.seed.isin(rest.seed) & (table.role != "untrained")]
    same(rest, theirs.reset_index(drop=True))


def test_study_json_names_the_images(folder, finished):
    about = json.loads((folder / "study.json").read_text())
    assert about["data"]["fingerprint"] == finished.dataset.spec.fingerprint
    assert {name: made["sha256"] for name, made in about["stimuli"].items()} == {
        name: made.sha256 for name, made in finished.stimuli.items()
    }
