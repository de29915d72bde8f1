"""Scores of how likely a client trained on each canary, from all updates that it sent.

To first order an update is a sum of per-example gradients, clipped where the client clips. The
scores are a regression of the updates on the gradients of all canaries, which removes from each
score what other canaries explain; a plain cosine does not.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from attacks.gradients import Tensors
from attacks.payload import Payload
from attacks.privacy_audit.bounds import SHARES, Audit, bound_by_guessing
from attacks.privacy_audit.observation import descent, example_gradients

NUMBERS = 2**25
"""Largest number of gradient entries in memory at once, 256 MiB in float64. If there are more,
gradients are computed again for each block of the matrix of their products."""

JITTER = 1e-9
"""Multiple of the mean diagonal that is added to that matrix, so that it can be inverted."""

LEAST_SIGNAL = 1e-6
"""Smallest ratio of a coefficient's variance to that of the noise; below it, the regression is a
plain product of gradients and update."""


class CanaryScores:
    """Scores of all canaries, round by round.

    The model is u_t = G_t s + noise in each round t, with the update u_t as a sum of gradients, the
    rows of G_t' the gradients of canaries and background images at the global weights, and s the
    contribution of each of them. Coefficients of canaries have an unknown common mean a, all have
    the same variance, and both it and the noise's are estimated from the updates. The scores are
    the best linear predictions of s - a: without noise a regression, under strong noise the matched
    filter that is optimal there. No coin is used.

    Args:
        model: Network of the client; a copy of it is used in evaluation mode.
        images: Normalised canaries, float ``[m, channels, height, width]``.
        labels: Class of each canary, int64 ``[m]``.
        clipping_norm: Clipping norm of the client's DP-SGD; ``None`` without DP-SGD.
        background: Public images and labels like those of the client. The part of an update that
            they explain is not attributed to canaries, which matters if the client has more real
            images than canaries; as many as the client has are enough.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        clipping_norm: float | None = None,
        background: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self._model = copy.deepcopy(model).eval()
        self._clipping_norm = clipping_norm
        self._canaries = len(labels)
        others = background or (images[:0], labels[:0])
        self._images = torch.cat([images, others[0]])
        self._labels = torch.cat([labels, others[1]])
        rows = len(self._labels)
        self._products = torch.zeros(rows, rows, dtype=torch.float64)
        self._seen = torch.zeros(rows, dtype=torch.float64)
        self._energy = 0.0
        self._numbers = 0
        self.rounds = 0

    def __repr__(self) -> str:
        rest = len(self._labels) - self._canaries
        return (
            f"CanaryScores({self._canaries} canaries, {rest} background images, "
            f"{self.rounds} rounds)"
        )

    def observe(
        self, payload: Payload, parameters: Tensors, buffers: Tensors, *, lr: float
    ) -> None:
        """Use the payload of one more round.

        Args:
            payload: Payload that the server received.
            parameters: Global parameters that it sent before, by name.
            buffers: Global buffers that it sent before, by name.
            lr: Learning rate of the round.

        Raises:
            ValueError: If the payload has other parameters, or a value that is not finite.
        """
        here = self._images.device
        update = descent(payload, parameters, lr=lr).to(here).double()
        if not bool(update.isfinite().all()):
            raise ValueError("the payload contains a value that is not finite")
        state = {name: p.to(here) for name, p in parameters.items()}
        kept = {name: b.to(here) for name, b in buffers.items()}
        blocks = torch.split(torch.arange(len(self._labels)), max(1, NUMBERS // len(update)))
        for index, left in enumerate(blocks):
            rows = self._gradients(left, state, kept)
            self._seen[left] += (rows @ update).cpu()
            self._add(left, left, rows @ rows.T)
            for right in blocks[index + 1 :]:
                product = rows @ self._gradients(right, state, kept).T
                self._add(left, right, product)
                self._add(right, left, product.T)
        self._energy += float(update.square().sum())
        self._numbers += len(update)
        self.rounds += 1

    def scores(self) -> Tensor:
        """Return the score of each canary; higher means more likely among the client's images.

        Returns:
            Scores, float64 ``[m]``; all 0 before the first round.
        """
        rows = len(self._seen)
        size = float(self._products.trace())
        if not self._energy or not size:
            return torch.zeros(self._canaries, dtype=torch.float64)
        unit = torch.eye(rows, dtype=torch.float64)
        products = self._products + JITTER * size / rows * unit
        explained = float(self._seen @ torch.linalg.solve(products, self._seen))
        noise = self._noise(explained)
        signal = max((explained - noise * rows) / size, LEAST_SIGNAL * noise)
        inverse = torch.linalg.inv(products + (noise / signal if noise else 0.0) * unit)
        together = self._products[:, : self._canaries].sum(1)
        weight = inverse[: self._canaries].sum(0)
        mean = float(weight @ self._seen) / float(weight @ together)
        scores: Tensor = inverse @ (self._seen - mean * together)
        return scores[: self._canaries]

    def memory(self) -> dict[str, Tensor]:
        """Return the state of the scores, to resume after a restart."""
        return {
            "products": self._products,
            "seen": self._seen,
            "energy": torch.tensor(self._energy, dtype=torch.float64),
            "numbers": torch.tensor(self._numbers),
            "rounds": torch.tensor(self.rounds),
        }

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Restore the state that ``memory`` returned, with the same canaries and background.

        Raises:
            KeyError: If a part is missing.
            ValueError: If the number of canaries and background images differs.
        """
        if memory["products"].shape != self._products.shape:
            seen = len(memory["seen"])
            raise ValueError(f"the state is for {seen} images, not {len(self._seen)}")
        self._products, self._seen = memory["products"].clone(), memory["seen"].clone()
        self._energy = float(memory["energy"])
        self._numbers, self.rounds = int(memory["numbers"]), int(memory["rounds"])

    def outcome(
        self,
        included: Tensor,
        *,
        delta: float,
        confidence: float = 0.95,
        shares: tuple[float, ...] = SHARES,
    ) -> Audit:
        """Return the lower bound on epsilon from guessing by the scores.

        Args:
            included: Coin of each canary, bool ``[m]``.
            delta: Delta of the epsilon to compare with, in [0, 1).
            confidence: Confidence of the bound, in (0, 1).
            shares: Shares of the canaries to guess on, see ``bound_by_guessing``.

        Raises:
            ValueError: If the numbers of coins and canaries differ, or a setting is out of range.
        """
        return bound_by_guessing(
            self.scores(), included.cpu(), delta=delta, confidence=confidence, shares=shares
        )

    def _gradients(self, places: Tensor, parameters: Tensors, buffers: Tensors) -> Tensor:
        places = places.to(self._images.device)
        return example_gradients(
            self._model,
            parameters,
            buffers,
            self._images[places],
            self._labels[places],
            clipping_norm=self._clipping_norm,
        ).double()

    def _add(self, left: Tensor, right: Tensor, product: Tensor) -> None:
        self._products[left[0] : left[-1] + 1, right[0] : right[-1] + 1] += product.cpu()

    def _noise(self, explained: float) -> float:
        """Return the residual variance of one entry of an update.

        With few parameters the regression explains everything; then all of it counts as noise.
        """
        free = self._numbers - len(self._seen)
        if free < len(self._seen):
            return self._energy / self._numbers
        return max(0.0, self._energy - explained) / free
