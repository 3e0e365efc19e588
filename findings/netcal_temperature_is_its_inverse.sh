#!/usr/bin/env bash
# Package: netcal 1.4.0, scaling.TemperatureScaling, with torch 2.15.0.
# Guess:   .temperature is the T of softmax(z / T), as its documentation writes it: above 1 for a network that is
#          too confident.
# Seen:    it is 1 / T. Logits that are 3 times too large give 0.34, logits that are 3 times too small 3.04. The
#          probabilities after transform are right.
# Matters: a table of temperatures says the opposite of what was found: the overconfident network looks
#          underconfident. Dividing logits by it, as for the teacher of a distillation, makes the calibration
#          error larger than before.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 numpy==2.4.6 netcal==1.4.0)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import numpy as np
from netcal.metrics import ECE
from netcal.scaling import TemperatureScaling
from scipy.special import softmax

random = np.random.default_rng(0)
logits = 1.5 * random.standard_normal((2000, 10))
labels = np.array([random.choice(10, p=row) for row in softmax(logits, axis=1)])
for factor in (3, 1, 1 / 3):
    answers = softmax(factor * logits, axis=1)
    scaling = TemperatureScaling()
    scaling.fit(answers, labels)
    temperature = scaling.temperature.item()
    divided = softmax(factor * logits / temperature, axis=1)
    errors = [ECE(15).measure(x, labels) for x in (answers, scaling.transform(answers), divided)]
    print(f"logits times {factor:.2f}: .temperature {temperature:.2f}; calibration error {errors[0]:.3f} before,",
          f"{errors[1]:.3f} after transform, {errors[2]:.3f} after dividing by .temperature")
    assert abs(temperature * factor - 1) < 0.15, "the temperature changed"
    assert errors[1] < 0.05 and (factor == 1 or errors[2] > errors[0]), "what is calibrated changed"
END
