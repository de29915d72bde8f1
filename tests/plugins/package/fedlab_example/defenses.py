"""A defense without a privacy guarantee, and one with an epsilon."""

import torch

from fedlab.defenses import Account, Defense


class Rounding(Defense):
    """Rounds every entry of the update to a multiple of a step."""

    step: float = 1e-3
    """Distance between the values that are sent, above 0."""

    colour = "#884422"
    keeps_guarantees = True
    changes_update = True

    def wrap(self, pipeline, context):
        return pipeline.releasing_each(lambda t: (t / self.step).round() * self.step)


class Noise(Defense):
    """Clips the update and adds Gaussian noise."""

    bound: float = 1.0
    """Largest L2 norm of the update, above 0."""
    noise: float = 4.0
    """Standard deviation of the noise over the largest norm."""

    account = Account(
        unit="client", adjacency="replace-one", composition="gaussian", sensitivity=2.0
    )
    keeps_guarantees = True
    changes_update = True

    def wrap(self, pipeline, context):
        deviation = 0.0 if context.noiseless else self.noise * self.bound

        def release(update):
            update = {name: t.nan_to_num(0.0, 0.0, 0.0) for name, t in update.items()}
            norm = torch.cat([t.flatten() for t in update.values()]).norm()
            factor = (self.bound / norm).clamp(max=1.0)
            return {
                name: factor * t
                + deviation * torch.randn(t.shape, generator=context.noise, device=t.device)
                for name, t in update.items()
            }

        cost = self.release(context, noise_multiplier=self.noise, sample_rate=1.0, steps=1)
        return pipeline.releasing(release).charged(cost)
