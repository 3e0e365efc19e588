#!/usr/bin/env bash
# Package: papermill 2.7.0, its command line.
# Guess:   -p values are read as YAML or JSON would: false is no, and a run's id stays a text.
# Seen:    -p pretrained false gives the text "false", which counts as true. A run's id that has the form of a
#          number becomes one: 12e4567 infinity, 007 7, 1_000 1000. The notebook that was run records it so.
# Matters: a sweep from a shell trains with what it was told to switch off, and finds no run by its id.
#          -y "{pretrained: false}" and -r id 12e4567 do what was meant.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(papermill==2.7.0 ipykernel==7.3.0 nbformat==5.10.4)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

venv/bin/python -m ipykernel install --prefix "$folder/venv" --name python3 > /dev/null
venv/bin/python - << 'END'
import nbformat

cell = nbformat.v4.new_code_cell("pretrained, run = True, ''", metadata={"tags": ["parameters"]})
shows = nbformat.v4.new_code_cell("print('used' if pretrained else 'not used', repr(run))")
about = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
nbformat.write(nbformat.v4.new_notebook(cells=[cell, shows], metadata=about), "in.ipynb")
END

seen() {
  JUPYTER_PATH="$folder/venv/share/jupyter" venv/bin/papermill in.ipynb out.ipynb --log-output --no-progress-bar "$@" 2>&1 |
    grep -o "\(not \)\?used .*" | tail -1
}

for given in "-p pretrained false -p run 12e4567" "-p pretrained False -p run 007" "-p pretrained False -p run 1_000" \
  "-y {pretrained:\ false} -r run 12e4567"; do
  eval "told=\$(seen $given)"
  echo "$given: $told"
  found="${found:-}$told;"
done
test "$found" = "used inf;not used 7;not used 1000;not used '12e4567';" || { echo "what papermill reads changed" >&2; exit 1; }
