"""Class fishing: a last layer through which only some images of a batch send a gradient.

Wen, Geiping, Fowl, Goldblum and Goldstein, "Fishing for User Data in Large-Batch Federated
Learning via Gradient Magnification" (ICML 2022, arXiv 2202.00580). The server is malicious: it
sends weights that no training produces. Never mix results with those of an honest-but-curious
server.

With logits z = W f + b of features f, the cross-entropy of an image with label y sends back::

    dL/df = sum_k W_k p_k - W_y        dL/dW_k = (p_k - 1[k = y]) f        dL/db_k = p_k - 1[k = y]

The first is zero for every label but the target's if all other rows of W are equal and p_target
is 0. The second and third cannot be: that needs p = onehot(y), and the last layer does not know y.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


def fish_class(
    parameters: Mapping[str, Tensor],
    *,
    weight: str,
    bias: str | None,
    target: int,
    multiplier: float = 0.5,
    lift: float = 1000.0,
) -> dict[str, Tensor]:
    """Change the last layer so that only images of one class send a gradient below it.

    The row of the target is ``multiplier`` everywhere, all others are 0; the biases of the others
    are ``lift`` (0.5 and 1000: the authors' public configuration). Then p_target = 0 and all other
    classes share the rest evenly. Images of other classes send nothing at all into the layers
    below, those of the target ``-multiplier`` to each feature. Of the last layer, the target's row
    holds the target's features alone; the other rows hold everyone's, which ``isolate`` replaces.

    It holds while multiplier sum(f) + b_target < lift - 104, where the exponential of float32
    underflows to 0. Without a bias the target's row is ``-multiplier`` instead, and it holds while
    multiplier sum(f) > 104: for features that are not negative, as after a ReLU, and a multiplier
    chosen large enough for them.

    Args:
        parameters: Parameters of the network by name; they stay unchanged.
        weight: Name of the last layer's weights, ``[classes, features]``.
        bias: Name of its bias ``[classes]``, or ``None`` if it has none.
        target: Class to fish for.
        multiplier: Weight of every feature in the target's row, above 0.
        lift: Bias of the other classes, above 0; not used without a bias.

    Returns:
        All parameters by name, with a changed last layer.

    Raises:
        ValueError: If there is no such layer or class, or a number is not above 0.
    """
    if multiplier <= 0 or lift <= 0:
        raise ValueError(f"multiplier and lift must be above 0, not {multiplier} and {lift}")
    old = _layer(parameters, weight, bias, target)
    row = torch.full_like(old[target], multiplier if bias is not None else -multiplier)
    fished = dict(parameters) | {weight: _with_row(torch.zeros_like(old), target, row)}
    if bias is not None:
        biases = torch.full_like(parameters[bias], lift)
        biases[target] = parameters[bias][target]
        fished[bias] = biases
    return {name: tensor.detach() for name, tensor in fished.items()}


def fish_feature(
    parameters: Mapping[str, Tensor],
    *,
    weight: str,
    bias: str,
    target: int,
    direction: Tensor,
    cut: float,
    multiplier: float = 300.0,
) -> dict[str, Tensor]:
    """Change the last layer so that only images of one class below a cut send a gradient.

    The logit of the target is multiplier (direction · f - cut), all others are 0. Images of the
    target above the cut have p_target = 1 and send nothing, not even into the last layer; those
    below it have p_target = 0 and send ``-multiplier direction`` to the features. With the cut
    between the lowest value and the next one image is left. Other classes do the opposite: they
    send a gradient above the cut. So this works for clients whose images are all of one
    class, and no last layer does better: all labels without gradient on one side of the cut need
    equal rows, which remove the gradient on the other side as well.

    Images nearer to the cut than about 20 / multiplier send a partial gradient; an untrained
    network may need a larger multiplier than the default. To reconstruct the image, simulate with a
    far higher cut: its own gradient stays the same, but no candidate loses its gradient.

    Args:
        parameters: Parameters of the network by name; they stay unchanged.
        weight: Name of the last layer's weights, ``[classes, features]``.
        bias: Name of its bias ``[classes]``.
        target: Class of the client's images.
        direction: Direction in feature space, float ``[features]``; for one feature, 1 there and 0
            elsewhere.
        cut: Value of direction · f below which images send a gradient.
        multiplier: Steepness of the cut, above 0 (300: the authors' public configuration).

    Returns:
        All parameters by name, with a changed last layer.

    Raises:
        ValueError: If there is no such layer or class, the direction does not fit or the
            multiplier is not above 0.
    """
    if multiplier <= 0:
        raise ValueError(f"multiplier must be above 0, not {multiplier}")
    old = _layer(parameters, weight, bias, target)
    if direction.shape != old[target].shape:
        raise ValueError(
            f"the direction is {list(direction.shape)}, but {weight} has {old.shape[1]} features"
        )
    biases = torch.zeros_like(parameters[bias])
    biases[target] = -multiplier * cut
    rows = _with_row(torch.zeros_like(old), target, multiplier * direction.to(old))
    fished = dict(parameters) | {weight: rows, bias: biases}
    return {name: tensor.detach() for name, tensor in fished.items()}


def isolate(
    gradient: Mapping[str, Tensor], *, weight: str, bias: str | None, target: int
) -> dict[str, Tensor]:
    """Return the part of a gradient of ``fish_class`` that comes from images of the target.

    Below the last layer and in the target's row nothing changes. The other rows hold the
    features of all images; for the target's images alone each is -1/(classes - 1) times the
    target's row, since p is even over the other classes. With one such image in a mean over B the
    result is exactly 1/B times the gradient of that image; with several, of their mean.

    Args:
        gradient: Gradient of a batch at the parameters of ``fish_class``, by name.
        weight: Name of the last layer's weights.
        bias: Name of its bias, or ``None`` if it has none.
        target: Class that the server fished for.

    Returns:
        All tensors by name; those of the last layer are new.

    Raises:
        ValueError: If there is no such layer or class.
    """
    _layer(gradient, weight, bias, target)
    return dict(gradient) | {
        name: _alone(gradient[name].detach(), target) for name in (weight, bias) if name is not None
    }


def count_labels(gradient: Tensor, *, target: int, num_images: int) -> Tensor:
    """Count the images of each class in the batch of a gradient of ``fish_class``.

    All probabilities are known (0 for the target, even for the others), so the counts
    n_c = B (p_c - dL/db_c) are exact. A target with a count of 1 can be reconstructed as a single
    image.

    Args:
        gradient: Gradient of the mean loss by the last layer's bias, float ``[classes]``.
        target: Class that the server fished for.
        num_images: Number of images B in the batch.

    Returns:
        Number of images of each class, int64 ``[classes]``.
    """
    even = torch.full_like(gradient, 1 / (len(gradient) - 1))
    even[target] = 0
    return (num_images * (even - gradient)).round().long()


def last_layer(tensors: Mapping[str, Tensor]) -> tuple[str, str | None]:
    """Return the names of the weights and the bias of a network's last layer.

    Args:
        tensors: Parameters or their gradients by name, in the order of the layers.

    Returns:
        Both names; the second is ``None`` if the layer has no bias.

    Raises:
        ValueError: If the last layer is not a linear one.
    """
    *earlier, last = tensors
    if tensors[last].ndim == 2:
        return last, None
    weight = earlier[-1] if earlier else last
    if tensors[weight].ndim != 2 or tensors[last].shape != tensors[weight].shape[:1]:
        raise ValueError(f"class fishing needs a linear last layer, but {last} belongs to none")
    return weight, last


def _alone(tensor: Tensor, target: int) -> Tensor:
    own = tensor[target]
    return _with_row((-own / (len(tensor) - 1)).expand_as(tensor), target, own)


def _with_row(rows: Tensor, index: int, row: Tensor) -> Tensor:
    changed = rows.clone()
    changed[index] = row
    return changed


def _layer(tensors: Mapping[str, Tensor], weight: str, bias: str | None, target: int) -> Tensor:
    """Return the weights of the last layer, after checking that it is linear and has the class."""
    for name in (weight, bias):
        if name is not None and name not in tensors:
            raise ValueError(f"the network has no {name}")
    rows = tensors[weight]
    if rows.ndim != 2 or len(rows) < 2 or (bias and tensors[bias].shape != rows.shape[:1]):
        raise ValueError(
            f"{weight} and {bias} are not those of a linear layer of 2 or more classes"
        )
    if not 0 <= target < len(rows):
        raise ValueError(f"target must be from 0 to {len(rows) - 1}, not {target}")
    return rows
