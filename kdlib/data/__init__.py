"""Images as uint8 tensors: CIFAR-10, CIFAR-100, an image folder, or the procedural shape-texture set.

An image folder is decoded once; a fingerprint of the pixels is part of every run's identity.
"""

from kdlib.data.augmentation import PADDING, augment, epoch_plan
from kdlib.data.base import PROJECT, DataError, Dataset, DataSpec, Split, cache_folder, data_root
from kdlib.data.sources import CIFAR10_CLASSES, fingerprint, load, read_image
