"""The Markdown files: snippets run and print what they show, links lead somewhere, names exist."""

import io
import json
import re
import shlex
from contextlib import redirect_stdout
from functools import cache
from unittest.mock import patch

import pytest

import kdlib
from kdlib.__main__ import main
from kdlib.data import PROJECT, DataSpec, load
from kdlib.methods import METHODS, hyperparameters
from kdlib.models import ModelSpec, Network
from kdlib.probes import PROBES, series
from kdlib.study.controls import CONTROLS
from kdlib.study.profile import profile_names
from kdlib.study.schema import read_profile

FOLDERS = (".", "docs", "kdlib/*", "results", "figures")
PAGES = sorted(path for folder in FOLDERS for path in PROJECT.glob(f"{folder}/*.md"))
TEXTS = {str(path.relative_to(PROJECT)): path.read_text(encoding="utf-8") for path in PAGES}
SNIPPETS = {name: re.findall(r"^```python\n(.*?)^```", text, re.M | re.S) for name, text in TEXTS.items()}
FENCE = re.compile(r"^```.*?^```", re.M | re.S)


def rows(name: str, header: str) -> list[list[str]]:
    """The cells of the table that starts with ``header``."""
    table = TEXTS[name].split(f"| {header} |", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", [name for name, found in SNIPPETS.items() if found])
def test_snippets_print_what_they_show(name):
    namespace = {"__name__": "snippet"}
    for snippet in SNIPPETS[name]:
        printed = io.StringIO()
        with redirect_stdout(printed), patch.dict(METHODS):  # one of them adds a method
            exec(compile(snippet, name, "exec"), namespace)
        assert printed.getvalue().splitlines() == re.findall(r"# -> (.*)", snippet)


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", TEXTS[name])):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = ((PROJECT / name).parent / file).resolve() if file else PROJECT / name
        assert path.exists(), target
        if anchor:
            notebook = path.suffix == ".ipynb"
            text = path.read_text(encoding="utf-8")
            cells = json.loads(text)["cells"] if notebook else []
            text = "\n".join("".join(cell["source"]) for cell in cells) if notebook else FENCE.sub("", text)
            headings = re.findall(r"^#+ (.*)", text, re.M)
            assert anchor in [one.replace(" ", "-") if notebook else slug(one) for one in headings], target


def test_the_readme_is_short_and_keeps_the_place_of_the_answer():
    text = TEXTS["README.md"]
    begin, end = "<!-- answer: made by `make notebooks` -->", "<!-- end of answer -->"
    assert len(text.splitlines()) <= 150
    assert text.count(begin) == text.count(end) == 1
    assert text.index("make study") < text.index("make test") < text.index(begin) < text.index(end)


def test_the_version_is_the_same_wherever_it_is_told():
    told = [(PROJECT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "CITATION.cff")]
    found = [re.search(r'^version(?: =|:) "?([\d.]+)', text, re.M)[1] for text in told]
    assert found == [kdlib.__version__] * 2


def test_make_targets_exist():
    targets = re.findall(r"^(\w+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.M)
    named = [target for text in TEXTS.values() for target in re.findall(r"(?:^|`)make (\w+)", text, re.M)]
    assert named and set(named) <= set(targets)


@cache
def help_of(*command: str) -> str:
    printed = io.StringIO()
    with redirect_stdout(printed), pytest.raises(SystemExit) as exit:
        main([*command, "--help"])
    assert exit.value.code == 0, command
    return printed.getvalue()


def commands(text: str) -> list[list[str]]:
    """The words after ``python -m kdlib`` in blocks and in running text."""
    found = re.findall(r"python -m kdlib ([^`\n]+)", text.replace("\\\n", " "))
    return [shlex.split(words, comments=True) for words in found]


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if "python -m kdlib " in text])
def test_commands_options_and_profiles_exist(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(METHODS, "hints", METHODS["fitnet"])  # the example in kdlib/methods/README.md
    for command, *words in commands(TEXTS[name]):
        text = help_of(command)
        options = [word for word in words if word.startswith("--")]
        values = {option: words[place + 1] for place, option in enumerate(words[:-1]) if option in options}
        assert all(re.search(rf"{option}\b", text) for option in options), words
        if command == "list":
            assert words[0] in text
        if "--from-results" in values:
            assert (PROJECT / values["--from-results"]).is_dir()
        changes = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
        profile = values.get("--profile", "quick")
        read_profile("quick" if profile == "my_study.yml" else profile, changes)


def test_options_in_running_text_exist():
    subcommands = {command for text in TEXTS.values() for command, *_ in commands(text)}
    known = " ".join(help_of(command) for command in subcommands)
    for name, text in TEXTS.items():
        for option in re.findall(r"`(--[a-z-]+)", FENCE.sub("", text)):
            assert option in known, (name, option)


def test_the_table_of_methods_is_the_registry():
    table = [[names(name)[0], *cells[:4]] for name, *cells in rows("kdlib/methods/README.md", "name | title")]
    assert {directions for _, _, _, directions, _ in table} == {
        "both",
        "CNN → ViT",
        "ViT → CNN",
        "ViT → CNN *",
    }
    assert {name: title for name, title, *_ in table} == {name: kind.title for name, kind in METHODS.items()}


def test_the_table_of_methods_counts_their_parameters():
    """Of what a method adds to a student of ``cifar10-cpu``, where it teaches that student."""
    profile = read_profile("cifar10-cpu")
    data = load(DataSpec("shape_texture", train_images=100, options={"test_images": 20}))
    specs = {family: ModelSpec(**student["model"]) for family, student in profile["students"].items()}

    def network(family: str, heads: tuple[str, ...] = ("class",)) -> Network:
        return Network(specs[family], len(data.classes), *data.statistics, heads=heads)

    def size(module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    plain = {family: network(family) for family in specs}
    for name, *_, counts, _ in rows("kdlib/methods/README.md", "name | title"):
        for count, student, teacher in zip(counts.split(" / "), ("vit", "cnn"), ("cnn", "vit"), strict=True):
            if count == "—":
                continue
            method = METHODS[names(name)[0]](**hyperparameters(names(name)[0], {}))
            own = network(student, method.heads)
            method.build(own, plain[teacher].eval(), data.train)
            assert size(own) + size(method) - size(plain[student]) == int(count.replace(",", "")), name


def test_the_tables_of_probes_profiles_and_controls_are_complete():
    levels = series()
    asked = [probe for name in read_profile("cifar10-cpu")["probes"] for probe in levels.get(name, [name])]
    shown = {family for family, *_ in rows("kdlib/probes/README.md", "family")}
    assert {PROBES[probe].family for probe in asked} == shown | {"clean"}
    profiles = [names(cell)[0] for cell, *_ in rows("docs/profiles.md", "profile")]
    assert sorted(profiles) == profile_names()
    controls = [name for cell, *_ in rows("docs/profiles.md", "control") for name in names(cell)]
    assert sorted(controls) == sorted(CONTROLS)
