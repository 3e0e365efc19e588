"""Probes: changed test images that each ask one question about what a model relies on.

A probe takes uint8 images at their own size and returns uint8: normalising and resizing are a model's
business, and the same for clean and probe images.
"""

from kdlib.probes.base import Stimuli
from kdlib.probes.registry import PROBES, Probe, series, stimuli
