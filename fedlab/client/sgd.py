"""One step of local SGD: gradient of a batch, proximal term, norm bias, momentum, weight decay."""

from collections.abc import Mapping
from functools import partial
from typing import cast

import torch
from torch import Tensor
from torch.func import vmap
from torch.optim.sgd import sgd

from attacks.norm_bias import decay_factor
from fedlab.defenses.pipeline import Gradient
from fedlab.protocol.task import ClientTask


class LocalStep:
    """A step of ``torch.optim.SGD``, without its hooks for profilers and compilers.

    For a small network these take longer than the step. The bits are the same.

    Args:
        parameters: Parameters by name, which change in place.
        gradient: Function that overwrites their ``.grad`` with the gradient of a batch.
        task: Task with learning rate, momentum, weight decay and weight of the proximal term.
        global_state: Global parameters by name, from which the proximal term pulls.
        stacked: True if parameters are those of several clients, along a first dimension.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        gradient: Gradient,
        task: ClientTask,
        global_state: Mapping[str, Tensor],
        *,
        stacked: bool = False,
    ) -> None:
        self._parameters, self._gradient = dict(parameters), gradient
        self._global_state, self._mu = global_state, task.proximal_mu
        self._momenta: list[Tensor | None] = [None] * len(self._parameters)
        self._lr, self._training = task.lr, task.training
        self._decay = 0.0 if task.training.norm_target else task.training.weight_decay
        bias = partial(
            decay_factor,
            weight_decay=task.training.weight_decay,
            norm_target=task.training.norm_target,
        )
        self._bias = vmap(bias) if stacked else bias

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Change every parameter that has a gradient.

        Args:
            images: Normalised images, float32 ``[b, channels, height, width]``; of several clients
                ``[clients, b, channels, height, width]``.
            labels: int64 ``[b]`` or float32 ``[b, classes]``; of several clients ``[clients, b]``.
        """
        self._gradient(images, labels)
        if self._mu:
            self._add_proximal_gradient()
        if self._training.norm_target:
            self._add_norm_bias()
        self._descend()

    def forget_momenta(self) -> None:
        """Start the momentum from zero, in the tensors that it is in."""
        for momentum in self._momenta:
            if momentum is not None:
                momentum.zero_()

    def _add_proximal_gradient(self) -> None:
        """Add the gradient of the proximal term mu/2 ||w - w_global||^2 (Li et al. 2020, eq. 2)."""
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                drift = parameter.detach() - self._global_state[name]
                parameter.grad.add_(drift, alpha=self._mu)

    @torch.no_grad()
    def _add_norm_bias(self) -> None:
        """Add weight decay towards the target norm; of stacked clients each has its own norm."""
        trained = [each for each in self._parameters.values() if each.requires_grad]
        factor = cast(Tensor, self._bias(trained))
        for parameter in trained:
            if parameter.grad is not None:
                ones = [1] * (parameter.ndim - factor.ndim)
                parameter.grad.add_(factor.view(*factor.shape, *ones) * parameter)

    @torch.no_grad()
    def _descend(self) -> None:
        parameters = list(self._parameters.values())
        given = [place for place, each in enumerate(parameters) if each.grad is not None]
        momenta = [self._momenta[place] for place in given]
        sgd(
            [parameters[place] for place in given],
            [cast(Tensor, parameters[place].grad) for place in given],
            momenta,
            foreach=True,
            lr=self._lr,
            momentum=self._training.momentum,
            weight_decay=self._decay,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        for place, momentum in zip(given, momenta, strict=True):
            self._momenta[place] = momentum
