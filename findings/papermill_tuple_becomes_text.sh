#!/usr/bin/env bash
# Package: papermill 2.7.0.
# Guess:   a parameter arrives in the notebook as it was given: the tuple (32, 32) as a tuple, or at least as a
#          list; the annotations of the parameters cell still hold.
# Seen:    the tuple arrives as the text "(32, 32)", also where the cell says "size: tuple". The notebook's
#          metadata, which is read afterwards, says [32, 32]. A list arrives as a list. The injected cell
#          repeats no annotation, and a misspelt parameter is a log line, not an error.
# Matters: len(size) is 8, "in size" searches characters, and size * 2 is text: some cells run on. What was run
#          isn't what the record says.
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
import json
import logging
import pathlib

import nbformat
import papermill

logging.disable(logging.WARNING)
cell = nbformat.v4.new_code_cell("size: tuple = (8, 8)\nepochs: int = 5", metadata={"tags": ["parameters"]})
notebook = nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_code_cell("print(repr(size), len(size), epochs)")])
notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
nbformat.write(notebook, "in.ipynb")
seen = {}
for size in ((32, 32), [32, 32]):
    parameters = {"size": size, "epoch": 3}  # epochs is misspelt
    done = papermill.execute_notebook("in.ipynb", "out.ipynb", parameters, progress_bar=False)
    recorded = json.loads(pathlib.Path("out.ipynb").read_text())["metadata"]["papermill"]["parameters"]["size"]
    seen[type(size)] = done.cells[-1].outputs[0].text.strip()
    print(f"given {size!r:9} injected {done.cells[1].source.splitlines()[1]!r:20} printed {seen[type(size)]!r:20} recorded {recorded}")
assert seen[tuple] == "'(32, 32)' 8 5" and recorded == [32, 32], "tuples changed"
assert seen[list] == "[32, 32] 2 5", "lists changed"
END
