"""DP-SGD at a client: Opacus clips each example's gradient and adds the noise.

Abadi et al., "Deep Learning with Differential Privacy" (CCS 2016), algorithm 1.
"""

import warnings
from dataclasses import replace

import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.nn import functional

from fedlab.defenses.pipeline import Circumstances, Pipeline, Sampler, poisson
from fedlab.defenses.settings import DPSGD
from fedlab.privacy.spending import Spending


class PrivateGradient:
    """The noisy mean of per-example gradients, each clipped to a norm (Opacus).

    The sum of the clipped gradients is divided by the *expected* batch size, as the
    analysis of Poisson sampling asks, so an empty batch is a release of pure noise.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        clipping_norm: float,
        noise_multiplier: float,
        expected_batch_size: int,
        generator: torch.Generator,
    ) -> None:
        # The loss below is a sum over examples, hence "sum" here; the optimizer's "mean"
        # is the division by the expected batch size.
        self._model = GradSampleModule(model, loss_reduction="sum")
        self._optimizer = DPOptimizer(
            torch.optim.SGD(model.parameters(), lr=0.0),  # never stepped: the client's own is
            noise_multiplier=noise_multiplier,
            max_grad_norm=clipping_norm,
            expected_batch_size=expected_batch_size,
            loss_reduction="mean",
            generator=generator,
            secure_mode=False,
        )
        layers = (module for module in model.modules() if isinstance(module, nn.Conv2d))
        self._layouts = [layer.register_forward_pre_hook(_plain_layout) for layer in layers]

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Set ``.grad`` of every parameter to the private gradient of a batch."""
        self._optimizer.zero_grad(set_to_none=True)
        if len(images):
            with warnings.catch_warnings():
                # Images need no gradient, which full backward hooks warn about.
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                loss = functional.cross_entropy(self._model(images), labels, reduction="sum")
                loss.backward()  # type: ignore[no-untyped-call]
        else:
            for parameter in self._optimizer.params:
                parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
        self._optimizer.pre_step()

    def close(self) -> None:
        """Take Opacus' hooks and attributes off the network."""
        self._optimizer.zero_grad(set_to_none=True)
        self._model.to_standard_module()
        for hook in self._layouts:
            hook.remove()
        for parameter in self._optimizer.params:
            for name in ("grad_sample", "summed_grad"):
                if hasattr(parameter, name):
                    delattr(parameter, name)


def _plain_layout(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Opacus 1.6 reads a convolution's input as if it lay in NCHW order, whatever its strides.

    Those in channels-last order, which PyTorch chooses by itself behind some grey images, would
    give wrong per-example gradients, and clipping would then bound the wrong thing.
    """
    return tuple(each.clone(memory_format=torch.contiguous_format) for each in inputs)


class ClipAndNoise:
    """DP-SGD as a defense of one round."""

    def __init__(self, settings: DPSGD) -> None:
        self.settings = settings

    def wrap(self, pipeline: Pipeline, around: Circumstances) -> Pipeline:
        """Replace the sampler by a Poisson one, and the gradient by a private one."""
        n = len(around.shard)
        batch_size = min(pipeline.batch_size, n)
        rate = batch_size / n if around.poisson else 1.0
        gradient = PrivateGradient(
            around.model,
            clipping_norm=self.settings.clipping_norm,
            noise_multiplier=0.0 if around.noiseless else self.settings.noise_multiplier,
            expected_batch_size=batch_size,
            generator=around.noise,
        )
        sampler: Sampler = pipeline.sampler
        if around.poisson:
            sampler = poisson(
                n, rate=rate, steps=pipeline.batches, generator=around.stream("batches")
            )
        return replace(
            pipeline,
            sampler=sampler,
            gradient=gradient,
            batch_size=batch_size,
            close=(*pipeline.close, gradient.close),
        ).charged(
            Spending(
                round=around.round,
                participation=around.participation,
                mechanism="dp-sgd",
                clipping_norm=self.settings.clipping_norm,
                noise_multiplier=self.settings.noise_multiplier,
                sample_rate=rate,
                steps=pipeline.batches,
            )
        )
