#!/usr/bin/env bash
# Package: torchmetrics 1.9.0, MulticlassAccuracy by its defaults, beside scikit-learn 1.9.1, with torch 2.15.0.
# Guess:   of 1,000 test images a network misses one, so its accuracy is 0.999; or, averaged over the classes,
#          not far below 1.
# Seen:    with images of 10 of 100 classes, one answer outside the 10 gives 0.908. The default is the mean over
#          classes, and a class that no image has counts as 0 as soon as it is answered once. Five such
#          answers give 0.663. Accuracy(task="multiclass") has another default and says 0.999 and 0.995, and so
#          does scikit-learn's balanced accuracy, which is over the classes that images have.
# Matters: on a test set of some of the classes (200 of 1,000 in ImageNet-A and ImageNet-R), or on a batch, the
#          number says how many other classes were named, more than how many images are right. Ask for
#          average="micro", or keep only the logits of the classes that are tested.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 numpy==2.4.6 torchmetrics==1.9.0 scikit-learn==1.9.1)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import warnings

import torch
from sklearn.metrics import balanced_accuracy_score
from torchmetrics.classification import Accuracy, MulticlassAccuracy

warnings.filterwarnings("ignore", message="y_pred contains classes")
labels = torch.arange(1000) % 10  # images of 10 of the 100 classes
found = {}
for slips in (0, 1, 5):
    for where, wrong in (("within the 10", (labels + 1) % 10), ("outside", 10 + torch.arange(1000) % 90)):
        answers = labels.clone()
        answers[:slips] = wrong[:slips]
        default = MulticlassAccuracy(num_classes=100)(answers, labels).item()
        task = Accuracy(task="multiclass", num_classes=100)(answers, labels).item()
        balanced = balanced_accuracy_score(labels, answers)
        found[slips, where] = default
        print(f"{slips} wrong of 1,000, {where:13}: MulticlassAccuracy {default:.3f}, Accuracy {task:.3f},",
              f"balanced_accuracy_score {balanced:.3f}")
        assert abs(task - balanced) < 1e-6 and abs(task - (1 - slips / 1000)) < 1e-6
        classes = 10 + (slips if where == "outside" else 0)
        assert abs(default - 10 * (1 - slips / 1000) / classes) < 1e-5, "absent classes no longer count"
assert found[1, "outside"] < 0.91 < 0.998 < found[1, "within the 10"]
END
