"""Gradient inversion: an attack is an objective, priors and a step rule."""

from attacks.reconstruction.consistency import Consistency, consistency
from attacks.reconstruction.invert import invert
from attacks.reconstruction.presets import PRESETS, Attack
from attacks.reconstruction.result import Reconstruction

__all__ = ["PRESETS", "Attack", "Consistency", "Reconstruction", "consistency", "invert"]
