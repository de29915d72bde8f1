"""Which manipulated weights a client detects, at 5 % false alarms over honest training.

Ten clients train honestly. In every round each client reads the weights that it is sent, as they
are and as each malicious server would have changed them, on 32 of its images. Limits are quantiles
of the honest readings with the first seed; rates are those with the second one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial

from torch import Tensor, nn

from attacks.malicious_server.fishing import fish_class, last_layer
from attacks.malicious_server.imprint import imprint
from attacks.malicious_server.suppression import suppress
from attacks.malicious_server.traps import Rule, check_traps, set_traps
from benchmarks.options import Options, data_sets
from benchmarks.report import THREADS, Claim, Figure, Report, console
from fedlab.core.seeds import generator
from fedlab.data.images import ImageData
from fedlab.defenses.weight_check import WeightCheck
from fedlab.metrics.received_weights import WeightReading, read_weights
from fedlab.scenario.scenario import Scenario
from fedlab.simulation.federation import Federation

CASES: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "fashion_mnist, mlp": ("fashion_mnist", {"name": "mlp", "width": 64}),
    "cifar10, convnet": ("cifar10", {"name": "convnet", "width": 16}),
    "cifar10, resnet8": ("cifar10", {"name": "resnet8", "width": 8, "norm": "group"}),
}
CLIENTS, ROUNDS, IMAGES, BINS, TARGET = 10, 10, 32, 64, 0
FALSE_ALARMS = 0.05
SIGNS = tuple(field.name for field in fields(WeightReading))
MUST = ("suppression", "imprint")
"""Manipulations that the defaults of ``weight-check`` must detect in every client and round."""

Manipulated = tuple[nn.Module, Mapping[str, Tensor]]


def fishing(model: nn.Module, state: Mapping[str, Tensor], _: ImageData) -> Manipulated:
    """The network with weights that fish for a class."""
    own = {name: state[name] for name, _ in model.named_parameters()}
    weight, bias = last_layer(own)
    return model, {**state, **fish_class(own, weight=weight, bias=bias, target=TARGET)}


def imprinting(model: nn.Module, state: Mapping[str, Tensor], data: ImageData) -> Manipulated:
    """The network behind an imprint block."""
    trap = imprint(
        model,
        shape=data.shape,
        bins=BINS,
        generator=generator(0, "imprint"),
        reference=data.normalise(data.pixels(data.test_images)),
    )
    block = {n: t.detach() for n, t in trap.state_dict().items() if n.startswith("block.")}
    return trap, {**block, **{f"network.{name}": tensor for name, tensor in state.items()}}


def suppressing(model: nn.Module, state: Mapping[str, Tensor], _: ImageData) -> Manipulated:
    """The network with the weights of every client but the target."""
    own = {name: state[name] for name, _ in model.named_parameters()}
    return model, {**state, **suppress(own)}


def trapping(
    model: nn.Module, state: Mapping[str, Tensor], data: ImageData, *, rule: Rule
) -> Manipulated:
    """The network with trap weights for the images that a client reads.

    Raises:
        ValueError: If the network cannot have them.
    """
    normalisation = {"shape": data.shape, "mean": data.mean, "std": data.std}
    check_traps(model, generator=generator(0, "check traps"), **normalisation)
    reference = data.normalise(data.pixels(data.test_images))
    draws = generator(0, "trap weights")
    return model, set_traps(
        model,
        state,
        rule=rule,
        batch_size=IMAGES,
        generator=draws,
        reference=reference,
        **normalisation,
    )


ATTACKS: Mapping[str, Callable[[nn.Module, Mapping[str, Tensor], ImageData], Manipulated]] = {
    "honest": lambda model, state, _: (model, state),
    "class fishing": fishing,
    "imprint": imprinting,
    "suppression": suppressing,
    "trap weights, quantile": partial(trapping, rule="quantile"),
    "trap weights, halves": partial(trapping, rule="halves"),
}
"""What the server sends, by name."""

Readings = Mapping[str, Sequence[WeightReading]]


def run(options: Options) -> Report:
    """Train, read and count, for each network.

    Raises:
        BadInput: If there is no folder with the data sets.
    """
    names = sorted({file for file, _ in CASES.values()})
    files = {path.stem: path for path in data_sets(options, names)}
    figures: list[Figure] = []
    claims: list[Claim] = []
    for case, (file, model) in CASES.items():
        first, second = (readings(f"npz:{files[file]}", model, seed) for seed in (0, 1))
        limits = {sign: quantile(first["honest"], sign, 1 - FALSE_ALARMS) for sign in SIGNS}
        shared = FALSE_ALARMS / len(SIGNS)
        strict = {sign: quantile(first["honest"], sign, 1 - shared) for sign in SIGNS}
        defaults = WeightCheck()
        for attack, found in ((name, found) for name, found in second.items() if found):
            rates = {
                **{s: [float(value(one, s) > limits[s]) for one in found] for s in SIGNS},
                "any sign": [float(any(value(r, s) > strict[s] for s in SIGNS)) for r in found],
                "defaults": [
                    float(defaults.reason(one, images=IMAGES) is not None) for one in found
                ],
            }
            for sign, alarms in rates.items():
                figures.append(Figure(f"{case}, {attack}, {sign}: alarms", "", alarms))
            told = ", ".join(f"{s} {sum(a) / len(a):.2f}" for s, a in rates.items())
            console.print(f"{case}, {attack}: {told}", highlight=False, soft_wrap=True)
            if attack in MUST:
                name = f"{case}: defaults detect {attack} in every reading"
                claims.append(Claim(name, all(rates["defaults"])))
        figures += [Figure(f"{case}, limit of {s}", "", [limits[s]]) for s in SIGNS]
    return Report(
        title="Which manipulated weights does a client detect?",
        settings={
            "clients": CLIENTS,
            "rounds": ROUNDS,
            "images read": IMAGES,
            "limits": f"quantile {1 - FALSE_ALARMS:g} of the honest readings with seed 0; for any "
            f"sign together {1 - FALSE_ALARMS / len(SIGNS):g}; rates with seed 1",
            "class fishing": f"for class {TARGET}",
            "imprint": f"{BINS} bins",
            "trap weights": f"for batches of {IMAGES} images, where the network can have them",
        },
        figures=figures,
        claims=claims,
    )


def readings(source: str, model: Mapping[str, object], seed: int) -> dict[str, list[WeightReading]]:
    """What every client reads in every round, by what the server sends."""
    scenario = Scenario().changed(
        seed=seed,
        rounds=ROUNDS,
        data={"source": source, "train": 2_000, "test": 1_000, "clients": CLIENTS},
        model=dict(model),
        training={"batch_size": 20, "lr": 0.05},
        roles=[],
        defenses=[],
        reconstructions=[],
        engine={"device": "cpu", "threads": THREADS, "workers": 1},
    )
    federation = Federation(scenario)
    federated, before = federation.federated, None
    found: dict[str, list[WeightReading]] = {name: [] for name in ATTACKS}
    for _ in range(ROUNDS):
        state = dict(federation.state)
        former = before or state
        for name, change in ATTACKS.items():
            try:
                network, sent = change(federated.model, state, federated.data)
            except ValueError:  # only the mlp can have trap weights
                continue
            # What a network without the server's block was before, the block was, too.
            last = {**sent, **{f"network.{n}": t for n, t in former.items()}, **former}
            for client in range(CLIENTS):
                shard = federated.shard(client)
                images = federated.data.normalise(federated.data.pixels(shard.images[:IMAGES]))
                labels = shard.labels[:IMAGES]
                found[name].append(read_weights(network, sent, images, labels, before=last))
        before = state
        federation.step()
    return found


def value(reading: WeightReading, sign: str) -> float:
    """One sign of a reading."""
    return float(getattr(reading, sign) or 0.0)


def quantile(found: Sequence[WeightReading], sign: str, level: float) -> float:
    """Smallest limit that at most a share 1 - level of the readings exceed."""
    values = sorted(value(reading, sign) for reading in found)
    return values[min(len(values) - 1, math.ceil(level * len(values)) - 1)]
