#!/usr/bin/env bash
# Package: webdataset 1.0.2, .shuffle(n), beside datasets 5.2.0, IterableDataset.shuffle(buffer_size=n).
# Guess:   a buffer as large as the data set gives a full shuffle: any batch holds all classes.
# Seen:    of 5,000 images sorted by class, with a buffer of 5,000, the first 100 are all of class 0 and the first
#          1,000 hold two of the classes 4 to 9; the last 1,000 hold 22 times as many of class 9 as of class 0.
#          Images are handed out as soon as 100 are in the buffer ("initial"), one for each two read, and a
#          larger buffer changes nothing. The code's own text says "less random" at startup; it is the whole
#          epoch. datasets fills its buffer first and is uniform.
# Matters: each epoch starts with the first classes and ends with the last ones, in training, in statistics of
#          batch norm and in any queue of negatives. Say initial=n as well, or shuffle the files as they are written.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(numpy==2.4.6 webdataset==1.0.2 datasets==5.2.0 torch==2.15.0)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import io
import tarfile
import warnings

import datasets
import numpy as np
import webdataset

warnings.filterwarnings("ignore")
classes = np.arange(5000) // 500
with tarfile.open("sorted.tar", "w") as tar:
    for index, number in enumerate(classes):
        text = str(number).encode()
        about = tarfile.TarInfo(f"{index:05}.cls")
        about.size = len(text)
        tar.addfile(about, io.BytesIO(text))


def order(*size, **options):
    data = webdataset.WebDataset("sorted.tar", shardshuffle=False).shuffle(*size, seed=0, **options)
    return np.array([int(sample["cls"]) for sample in data.decode()])


hugging = datasets.Dataset.from_dict({"cls": classes}).to_iterable_dataset().shuffle(seed=0, buffer_size=5000)
cases = {
    "webdataset, 5000": order(5000),
    "webdataset, 50000": order(50000),
    "webdataset, 5000, initial=5000": order(5000, initial=5000),
    "datasets, 5000": np.array([row["cls"] for row in hugging]),
}
found = {}
for name, seen in cases.items():
    assert len(seen) == 5000
    first, thousand, last = (np.bincount(part, minlength=10) for part in (seen[:100], seen[:1000], seen[-1000:]))
    found[name] = (first > 0).sum(), thousand[4:].sum(), last[9] / max(last[0], 1)
    print(f"{name:31} classes among the first 100: {found[name][0]:2}; of the classes 4 to 9 among the first 1,000:",
          f"{found[name][1]:3}; class 9 over class 0 in the last 1,000: {found[name][2]:.1f}")
for name in ("webdataset, 5000", "webdataset, 50000"):
    assert found[name][0] == 1 and found[name][1] < 30 and found[name][2] > 5, f"{name}: the order changed"
for name in ("webdataset, 5000, initial=5000", "datasets, 5000"):
    assert found[name][0] == 10 and found[name][1] > 500 and found[name][2] < 2, f"{name}: no longer uniform"
END
