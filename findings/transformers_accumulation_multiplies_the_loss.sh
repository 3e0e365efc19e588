#!/usr/bin/env bash
# Package: transformers 5.24.0, Trainer with gradient_accumulation_steps, with accelerate 1.15.0 and torch 2.15.0.
# Guess:   4 batches of 4 images, accumulated, make the step of one batch of 16: the mean over 16 images.
# Seen:    for ResNet, RegNet and BeiT, loss and gradient are 4 times as large, for ViT and ConvNeXt not. The Trainer
#          leaves the division to every network whose forward takes **kwargs, and these three don't do it. With
#          a loss of one's own in compute_loss, as for distillation, ViT's is 4 times as large too.
# Matters: with the same arguments, accumulated over 8 batches, a ResNet's gradient is 8 times too large and a
#          ViT's right. SGD's steps are 8 times as long, and clipping to norm 1, the default, cuts far more. A
#          difference between the architectures, or between baseline and distilled student, can follow from it.
# Instead: class MyTrainer(Trainer): loss_is_scaled_for_ga = False, wherever the loss is a mean over its batch. The
#          class's documentation asks it of those who compute their own loss; ResNet's needs it as well.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
packages=(torch==2.15.0 numpy==2.4.6 transformers==5.24.0 accelerate==1.15.0)
if command -v uv > /dev/null; then
  uv venv -q "$folder/venv"
  uv pip install -q --python "$folder/venv/bin/python" "${packages[@]}"
else
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q "${packages[@]}"
fi
cd "$folder"

OMP_NUM_THREADS=1 venv/bin/python - << 'END'
import tempfile

import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainingArguments

transformers.logging.set_verbosity_error()
tokens = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
          "image_size": 16, "patch_size": 8, "hidden_dropout_prob": 0.0}
stages = {"embedding_size": 8, "hidden_sizes": [8], "depths": [1]}
networks = {
    "ViT": tokens,
    "ConvNext": {"hidden_sizes": [8, 8], "depths": [1, 1], "num_stages": 2},
    "Beit": tokens,
    "ResNet": {**stages, "layer_type": "basic"},
    "RegNet": {**stages, "groups_width": 4},
}
images, labels = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 10
examples = [{"pixel_values": image, "labels": label.item()} for image, label in zip(images, labels)]


class OwnLoss(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **others):
        targets = inputs.pop("labels")
        outputs = model(**inputs)
        loss = cross_entropy(outputs.logits, targets)  # + that of a teacher
        return (loss, outputs) if return_outputs else loss


class OwnLossDivided(OwnLoss):
    loss_is_scaled_for_ga = False


def first_step(name, trainer, batch, accumulated):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(num_labels=10, **networks[name])
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulated, max_steps=1,
            logging_steps=1, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True)
        network = getattr(transformers, f"{name}ForImageClassification")(config)
        run = trainer(model=network, args=arguments, train_dataset=examples)
        run.remove_callback(transformers.PrinterCallback)
        run.train()
    return run.state.log_history[0]["loss"], run.state.log_history[0]["grad_norm"]


for name, trainer, factor in (
    ("ViT", Trainer, 1), ("ConvNext", Trainer, 1), ("Beit", Trainer, 4), ("ResNet", Trainer, 4),
    ("RegNet", Trainer, 4), ("ViT", OwnLoss, 4), ("ConvNext", OwnLoss, 1), ("ResNet", OwnLoss, 4),
    ("ViT", OwnLossDivided, 1), ("ResNet", OwnLossDivided, 1),
):
    whole, parts = first_step(name, trainer, 16, 1), first_step(name, trainer, 4, 4)
    print(f"{name:8} {trainer.__name__:14} loss {whole[0]:.2f} at once, {parts[0]:5.2f} accumulated;",
          f"gradient {parts[1] / whole[1]:.2f} times as large")
    assert abs(parts[0] / whole[0] - factor) < 0.1 * factor, f"{name} with {trainer.__name__} changed"
    assert abs(parts[1] / whole[1] - factor) < 0.3 * factor, f"{name} with {trainer.__name__} changed"
END
