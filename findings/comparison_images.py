"""Rows about corruptions, moved patches and suppression: what is done to the same uint8 images.

Where it is random, a number of the whole set is compared, with a tolerance for the draws.
"""

from collections.abc import Callable

import numpy as np
from comparison_base import AFTER, OTHER, Row

DRAWS = 0.012  # relative: three standard errors of a deviation of 64 x 64 x 64 draws, and more
GREY = 128


def flat(level: int = GREY) -> np.ndarray:
    return np.full((64, 3, 32, 32), level, np.uint8)


def ours(probe: str, **params) -> Callable[[np.ndarray], np.ndarray]:
    """A probe's function with these parameters, of uint8 (N, 3, H, W)."""

    def made(images: np.ndarray) -> np.ndarray:
        import torch

        from kdlib.probes import noise, scramble, suppression

        function = next(
            getattr(room, probe) for room in (noise, scramble, suppression) if hasattr(room, probe)
        )
        labels = torch.zeros(len(images), dtype=torch.long)
        return function(
            torch.from_numpy(images), labels, torch.Generator().manual_seed(0), **params
        ).images.numpy()

    return made


def deviation(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict], float]:
    """Of mid-grey images, in [0, 1]."""
    return lambda x: float(change(flat()).astype(float).std() / 255)


def bright_over_dark(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict], float]:
    """Deviation of images of grey 200 over that of images of grey 64."""
    return lambda x: float(change(flat(200)).astype(float).std() / change(flat(64)).astype(float).std())


def of_levels(change: Callable[[np.ndarray], np.ndarray], levels: int) -> Callable[[dict], float]:
    """Deviation of mid-grey pixels in images that have this many levels elsewhere."""

    def value(x: dict) -> float:
        images = flat()
        images[:, :, :16] = (
            np.linspace(0, 255, levels).round().astype(np.uint8)[np.arange(512) % levels].reshape(16, 32)
        )
        return float(change(images)[:, :, 16:].astype(float).std() / 255)

    return value


def touched(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict], float]:
    """Share of the pixels of which at least one value is changed."""
    return lambda x: float((change(flat()) != GREY).any(1).mean())


def staying(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict], float]:
    """Share of 2 x 2 patches that are where they were."""

    def value(x: dict) -> float:
        places = np.array([[0, 80], [160, 240]], np.uint8).repeat(16, 0).repeat(16, 1)
        moved = change(np.broadcast_to(places, (2000, 3, 32, 32)).copy())
        return float((moved[:, 0, ::16, ::16] == places[::16, ::16]).mean())

    return value


def contrast(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict], float]:
    """Deviation of all values of the images made: what is left of their contrast."""
    return lambda x: float(change(x["images"]).astype(float).std())


def one_by_one(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """A function of one uint8 (H, W, 3), called for each of (N, 3, H, W)."""
    return lambda images: np.stack([change(image.transpose(1, 2, 0)).transpose(2, 0, 1) for image in images])


def torchvisions(name: str, **options) -> Callable[[np.ndarray], np.ndarray]:
    def made(images: np.ndarray) -> np.ndarray:
        import torch
        from torchvision.transforms.v2 import functional

        torch.manual_seed(0)
        return getattr(functional, name)(torch.from_numpy(images), **options).numpy()

    return made


def kornias(name: str, **options) -> Callable[[np.ndarray], np.ndarray]:
    def made(images: np.ndarray) -> np.ndarray:
        import kornia.augmentation
        import torch

        torch.manual_seed(0)
        found = getattr(kornia.augmentation, name)(**options)(torch.from_numpy(images).float() / 255)
        return (found * 255).round().numpy()

    return made


def albumentation(name: str, **options) -> Callable[[np.ndarray], np.ndarray]:
    def made(images: np.ndarray) -> np.ndarray:
        import albumentations

        change = albumentations.Compose([getattr(albumentations, name)(p=1, **options)], seed=0)
        return one_by_one(lambda image: change(image=image)["image"])(images)

    return made


def torch_uncertainty(images: np.ndarray) -> np.ndarray:
    import torch
    from torch_uncertainty.transforms.corruption import GaussianNoise

    torch.manual_seed(0)
    return (GaussianNoise(1)(torch.from_numpy(images).float() / 255) * 255).numpy()


def imagecorruption(images: np.ndarray) -> np.ndarray:
    from imagecorruptions import corrupt

    np.random.seed(0)
    return one_by_one(lambda image: corrupt(image, corruption_name="gaussian_noise", severity=1))(images)


def corrupt_tta(name: str) -> Callable[[np.ndarray], np.ndarray]:
    def made(images: np.ndarray) -> np.ndarray:
        from corrupt_tta import corrupt

        np.random.seed(0)
        return one_by_one(lambda image: corrupt(image, severity=1, corruption_name=name))(images)

    return made


def scikits(mode: str, **options) -> Callable[[np.ndarray], np.ndarray]:
    def made(images: np.ndarray) -> np.ndarray:
        from skimage.util import random_noise

        return (255 * random_noise(images, mode=mode, rng=0, **options)).round()

    return made


def scikits_grey(images: np.ndarray) -> np.ndarray:
    from skimage.color import rgb2gray

    return np.repeat(255 * rgb2gray(images.transpose(0, 2, 3, 1))[:, None], 3, 1)


def scikits_regions(images: np.ndarray) -> np.ndarray:
    from skimage.color import label2rgb
    from skimage.segmentation import slic

    def painted(image: np.ndarray) -> np.ndarray:
        return label2rgb(slic(image, 64, start_label=0), image, kind="avg", bg_label=-1)

    return one_by_one(painted)(images)


def scipys_blur(images: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    blurred = gaussian_filter(images.astype(float), (0, 0, 1, 1))
    return blurred.round()


def pillows_blur(images: np.ndarray) -> np.ndarray:
    from PIL import Image, ImageFilter

    return one_by_one(lambda i: np.asarray(Image.fromarray(i).filter(ImageFilter.GaussianBlur(1))))(images)


def pillows_grey(images: np.ndarray) -> np.ndarray:
    from PIL import Image

    return one_by_one(lambda i: np.asarray(Image.fromarray(i).convert("L").convert("RGB")))(images)


TORCHVISION, KORNIA, SCIKIT = "torchvision 0.29.2", "kornia 0.9.0", "scikit-image 0.26.0"
ALB, SCIPY, PILLOW = "albumentations 2.0.8", "scipy 1.17.1", "Pillow 13.0.0"
TTA = "corrupt-tta 0.1.7"
NOISE, GAUSSIAN = ours("gaussian_noise", sigma=0.1), ours("gaussian_noise", sigma=0.04)
SHOT, SALT, MOVED = ours("shot", rate=60), ours("impulse", share=0.05), ours("scramble", grid=2)
TENTH, SOME, TWO = {"std_range": (0.1, 0.1)}, {"amount": 0.05, "p": 1.0}, {"grid": (2, 2)}
SEVEN = {"kernel_size": [7, 7], "sigma": [1.0, 1.0]}
THREE = {"num_output_channels": 3}
BLUR, LUMA = ours("blur", sigma=1.0), ours("grey")
CUT = (
    "The noise, not the sum, is cut to whole levels toward 0: 4% less at sigma 0.04. Hendrycks and "
    "Dietterich 2019 add first, as ours."
)
IMAGENET = (
    "ImageNet-C's constants at any size. CIFAR-10-C, which has images of 32 px, has half as much: ours."
)
STAYS = "A permutation of 4 leaves one of them in place on average; ours is a cycle, in which none stays."
ONCE = "All channels of a pixel together: a third as many pixels. CIFAR-10-C draws for each value: ours."


def alike(measure: Callable, our: Callable, theirs: tuple, *rest, **options) -> list[Row]:
    """Rows of one measure of ours, and of several packages: (package, function, change)."""
    pairs = ((package, told, measure(change)) for package, told, change in theirs)
    return [
        Row(package, told, "images", measure(our), their, *rest, **options) for package, told, their in pairs
    ]


IMAGES = [
    *alike(
        deviation,
        NOISE,
        (
            (TORCHVISION, "v2 gaussian_noise of uint8, deviation", torchvisions("gaussian_noise", sigma=0.1)),
            (ALB, "GaussNoise of 0.1 of uint8, deviation", albumentation("GaussNoise", **TENTH)),
        ),
        CUT,
        tolerance=DRAWS / 2,
    ),
    *alike(
        deviation,
        NOISE,
        ((KORNIA, "RandomGaussianNoise(std=0.1), deviation", kornias("RandomGaussianNoise", std=0.1)),),
        "Half of the images get none (p=0.5).",
        OTHER,
        DRAWS,
    ),
    *alike(
        deviation,
        GAUSSIAN,
        (
            (TTA, "gaussian_noise, severity 1, deviation", corrupt_tta("gaussian_noise")),
            ("imagecorruptions-imaug 1.1.5", "gaussian_noise, severity 1, deviation", imagecorruption),
            ("torch-uncertainty 0.13.0", "GaussianNoise(1), deviation", torch_uncertainty),
        ),
        IMAGENET,
        OTHER,
        DRAWS,
    ),
    *alike(
        deviation,
        SHOT,
        ((TTA, "shot_noise, severity 1, beside our rate 60", corrupt_tta("shot_noise")),),
        tolerance=DRAWS,
    ),
    Row(
        ALB,
        "ShotNoise, deviation of bright over dark images",
        "images",
        bright_over_dark(SHOT),
        bright_over_dark(albumentation("ShotNoise", scale_range=(0.1, 0.1))),
        "Photons are counted in linear light, so dark images are noisier than bright ones. Hendrycks and "
        "Dietterich 2019: of the pixel's value, ours.",
        OTHER,
        DRAWS,
    ),
    Row(
        SCIKIT,
        'random_noise(mode="poisson"), all 256 levels, beside our rate 256',
        "images",
        of_levels(ours("shot", rate=256), 256),
        of_levels(scikits("poisson"), 256),
        guess=AFTER,
        tolerance=DRAWS,
    ),
    Row(
        SCIKIT,
        'random_noise(mode="poisson"), 16 levels',
        "images",
        of_levels(ours("shot", rate=256), 16),
        of_levels(scikits("poisson"), 16),
        "The rate is the number of unlike values, to the next power of two, so each image has its own. Ours "
        "is given.",
        AFTER,
        DRAWS,
    ),
    *alike(
        touched,
        SALT,
        ((SCIKIT, 'random_noise(mode="s&p"), pixels touched', scikits("s&p", amount=0.05)),),
        guess=AFTER,
        tolerance=DRAWS,
    ),
    *alike(
        touched,
        SALT,
        (
            (KORNIA, "RandomSaltAndPepperNoise, pixels", kornias("RandomSaltAndPepperNoise", **SOME)),
            (ALB, "SaltAndPepper, pixels touched", albumentation("SaltAndPepper", amount=(0.05, 0.05))),
        ),
        ONCE,
        AFTER,
        tolerance=DRAWS,
    ),
    *alike(
        staying,
        MOVED,
        (
            (ALB, "RandomGridShuffle, patches that stay", albumentation("RandomGridShuffle", **TWO)),
            (KORNIA, "RandomJigsaw, patches that stay", kornias("RandomJigsaw", p=1.0, **TWO)),
        ),
        STAYS,
        OTHER,
    ),
    *alike(
        contrast,
        BLUR,
        (
            (TORCHVISION, "gaussian_blur of 7 px, contrast left", torchvisions("gaussian_blur", **SEVEN)),
            (SCIPY, "gaussian_filter, contrast left", scipys_blur),
            (PILLOW, "GaussianBlur, contrast left", pillows_blur),
        ),
        tolerance=1e-3,
    ),
    *alike(
        contrast,
        LUMA,
        (
            (TORCHVISION, "rgb_to_grayscale, contrast left", torchvisions("rgb_to_grayscale", **THREE)),
            (PILLOW, 'convert("L"), contrast left', pillows_grey),
        ),
        tolerance=1e-3,
    ),
    *alike(
        contrast,
        LUMA,
        ((SCIKIT, "rgb2gray, contrast left", scikits_grey),),
        "Rec. 709's weights for linear light, on values that are not. Ours: Rec. 601's, for such values.",
        OTHER,
        1e-3,
    ),
    *alike(
        contrast,
        ours("superpixels", n=64),
        ((SCIKIT, "slic and label2rgb, contrast left", scikits_regions),),
        tolerance=1e-3,
    ),
]
