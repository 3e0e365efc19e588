#!/usr/bin/env bash
# Package: papermill 2.7.0, inspect_notebook (and papermill --help-notebook).
# Guess:   the default of a text parameter is the text.
# Seen:    it is cut at the first "#" even inside the quotes: colour = "#1f77b4" has the default a single
#          quotation mark and the help text 1f77b4".
# Matters: a sweep that reads its defaults from the notebook runs with other values than the notebook.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(papermill==2.7.0 nbformat ipykernel)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import nbformat
import papermill

source = 'colour: str = "#1f77b4"\nmarker = "run #3"  # as in the log\nepochs: int = 5  # passes over the data'
cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
notebook = nbformat.v4.new_notebook(cells=[cell])
notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
nbformat.write(notebook, "in.ipynb")
found = papermill.inspect_notebook("in.ipynb")
for line in source.splitlines():
    name = line.split(":")[0].split(" ")[0]
    print(f"{line:45} default {found[name]['default']!r:12} help {found[name]['help']!r}")
assert found["colour"]["default"] == '"' and found["marker"]["default"] != '"run #3"', "defaults are no longer cut"
assert found["epochs"]["default"] == "5"
END
