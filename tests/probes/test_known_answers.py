"""Every probe that a shipped profile uses gives the same images on every machine.

If only some of these fail on your machine, its maths library rounds differently: answers that networks give
there can't be joined with answers from elsewhere. If you changed a probe on purpose, enter the new digests
and raise ``kdlib.probes.registry.VERSION``.
"""

import pytest
import torch

from kdlib.data.procedural import generate
from kdlib.probes import PROBES

KNOWN = {  # first 16 digits of the images' sha256
    "clean": "96ff0ba810b9e58b",
    "cue_conflict": "c3870ae1e62f137d",
    "colour_axis": "45371b887e9738da",
    "pure_texture": "a8b21d66fe6fa063",
    "no_conflict": "e2262172cf5e6740",
    "superpixels_256": "e0c7b2c926a1b234",
    "superpixels_100": "4461f6510b78d0db",
    "superpixels_64": "1bda269757726667",
    "superpixels_36": "05749b40b4049c40",
    "grid_mean_64": "868c6014bec33e56",
    "grey": "0b8ccda1ec6ea479",
    "blur_1": "06ba2ae9e26e8ce2",
    "blur_2": "ba7efd02f89a037c",
    "edges": "d7541604132956b2",
    "scramble_2": "e36853b9223c47c7",
    "scramble_4": "8952ddce4888fde6",
    "scramble_8": "3c4a205dfbe79a2f",
    "scramble_2_offset": "10ab879fc79fcc14",
    "scramble_4_offset": "5fd4d09f9b3362d2",
    "scramble_8_offset": "217f1fcffa1f6376",
    "scramble_2_gutter": "f9f2996bbbc02219",
    "scramble_4_gutter": "e4f6927067c8d6ae",
    "intact_2_gutter": "20eb4ff6af543669",
    "intact_4_gutter": "092af6da6ebb4002",
    "pixel_shuffle_2": "e2ff218c2e887572",
    "pixel_shuffle_4": "aca0571fb623a3d3",
    "pixel_shuffle_8": "8c2d42529a796e05",
    "local_noise": "794d9927877e7753",
    "local_noise_strong": "120bc8a98ea6b9a4",
    "grey_box": "14d1107ff14d1c43",
    "gaussian_noise_1": "eabedc6c1d8e0a32",
    "gaussian_noise_2": "583b1c4f83cb69b1",
    "gaussian_noise_3": "c0860e39f7c9a915",
    "gaussian_noise_4": "0ecbe57649019a92",
    "gaussian_noise_5": "b5dee6db743f4e9d",
    "shot_1": "0ae6fb4b1b7310bd",
    "shot_2": "397bd7c48ca9b309",
    "shot_3": "c81e4aac7b173255",
    "shot_4": "a34bb5dea59536e5",
    "shot_5": "684243469a362929",
    "impulse_1": "8aae873ea800a4ca",
    "impulse_2": "7d087343af7b100c",
    "impulse_3": "d46d3459241c55d7",
    "impulse_4": "7daa59bf1278b617",
    "impulse_5": "9024b94748337f13",
    "patch_drop_25": "60adcab1fce0f9a1",
    "patch_drop_50": "6be3328a7c90895b",
    "patch_drop_75": "5c4719b250ff5a1c",
    "patch_drop_25_offset": "6468d1c64f6da6e8",
    "patch_drop_50_offset": "9b3cd08df535aeec",
    "patch_drop_75_offset": "936b4dea6cd1af61",
}


@pytest.fixture(scope="module")
def images():
    drawn = generate(100, seed=0)
    return drawn.images, drawn.labels


@pytest.mark.parametrize("name", PROBES)
def test_images_are_the_same_on_every_machine(name, images):
    pixels, labels = images
    if "per_pair" in PROBES[name].params:  # a few pairs of three classes are enough, and fast
        pixels, labels = pixels[:24], torch.arange(24) % 3
    assert PROBES[name](pixels, labels).sha256[:16] == KNOWN.get(name), (
        f"{name} differs on this machine; see the top of this file"
    )
