"""Gradient inversion: an attack is an objective, a prior and a step rule."""

from attacks.reconstruction.invert import invert
from attacks.reconstruction.presets import PRESETS, Attack
from attacks.reconstruction.result import Reconstruction

__all__ = ["PRESETS", "Attack", "Reconstruction", "invert"]
