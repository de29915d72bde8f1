"""How often attackers identify an image under DP-SGD, and the certified ceiling above them.

Each client of a federation of digits sends one update under DP-SGD. The informed adversary knows
everything but which of N images the client holds; a reconstruction attack rebuilds the image, and
the nearest of the same N counts. The first is the best attack there is, so this also tests the
accountant, the sampler and the noise: no share may lie significantly above the ceiling.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.privacy_audit.informed import posterior, sum_of_gradients
from attacks.privacy_audit.observation import descent, example_gradients
from benchmarks.ceilings_picture import Arm, Share, ceilings_picture
from benchmarks.options import Options
from benchmarks.report import Claim, Figure, Report, console
from fedlab.client.client_round import run_client_round
from fedlab.core.seeds import generator
from fedlab.metrics.intervals import share_interval
from fedlab.privacy.ceiling import ceiling
from fedlab.privacy.release import History, before_last
from fedlab.protocol.planning import task_for
from fedlab.report.figures.sheet import save
from fedlab.scenario.scenario import Scenario
from fedlab.server.captures import Capture
from fedlab.simulation.callbacks import Callback
from fedlab.simulation.federation import Federation

INFORMED = "informed adversary"
NOISES = (0.3, 0.5, 1.0, 2.0)
POOLS = (10, 100)
CLIENTS, SEEDS = 48, 4
ITERATIONS = 150
CLIPPING = 0.5
"""Clipping norm. The gradients of nearly all digits of the untrained network are longer."""
SIGNIFICANT = 0.99
"""Confidence of the interval of each share."""


@dataclass(frozen=True)
class Setting:
    """The training of one kind of client.

    Attributes:
        name: Name in the table.
        images: Number of images of a client.
        batch: Expected number of images in a batch.
    """

    name: str
    images: int
    batch: int

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.images // self.batch


ONE = Setting("one image, one step", 1, 1)
SAMPLED = Setting("8 images, 4 steps at rate 1/4", 8, 2)


class _Captures(Callback):
    """Keeps the captures of a round in memory."""

    essential = True

    def __init__(self) -> None:
        self.kept: list[Capture] = []

    def on_captures(self, federation: Federation, captures: Sequence[Capture]) -> None:
        """Keep the captures."""
        self.kept += captures


def scenario(setting: Setting, noise: float, seed: int) -> Scenario:
    """One round under DP-SGD; the learning rate is so small that gradients do not change."""
    return Scenario.model_validate(
        {
            "name": "ceilings",
            "seed": seed,
            "rounds": 1,
            "data": {"train": CLIENTS * setting.images, "test": 360, "clients": CLIENTS},
            "model": {"name": "mlp", "width": 32},
            "training": {"batch_size": setting.batch, "lr": 0.001},
            "captures": {"keep": "all"},
            "defenses": [{"name": "dp-sgd", "noise_multiplier": noise, "clipping_norm": CLIPPING}],
        }
    )


def releases(
    setting: Setting, noise: float, *, seeds: int
) -> Iterator[tuple[Federation, list[Capture]]]:
    """Run the round with each seed, and yield the federation with its captures."""
    for seed in range(seeds):
        captures = _Captures()
        federation = Federation(scenario(setting, noise, seed), callbacks=[captures])
        federation.step()
        yield federation, captures.kept


def informed_hits(
    federation: Federation, captures: Sequence[Capture], setting: Setting, noise: float
) -> dict[int, list[int]]:
    """Number of images that the informed adversary finds, by size of the pool and by client."""
    federated, state = federation.federated, captures[0].global_state
    parameters = {name: state[name] for name in captures[0].payload.tensors}

    def gradients(images: Tensor, labels: Tensor) -> Tensor:
        return example_gradients(
            federated.model,
            parameters,
            {},
            federated.network_input(images),
            labels,
            clipping_norm=CLIPPING,
        ).double()

    public = gradients(federated.data.test_images, federated.data.test_labels)
    hits: dict[int, list[int]] = {pool: [] for pool in POOLS}
    for capture in captures:
        client = capture.clients[0]
        shard = federated.shard(client)
        own = gradients(shard.images, shard.labels)
        moved = descent(capture.payload, parameters, lr=capture.facts.lr)
        release = sum_of_gradients(moved, expected_batch_size=setting.batch).double()
        counts = _counts(federation, capture, setting)
        for pool in POOLS:
            found = 0
            for image in range(setting.images):
                known = counts.clone()
                known[image] = 0
                chances = posterior(
                    release - known @ own,
                    torch.cat(
                        [own[image : image + 1], public[_others(federation, client, image, pool)]]
                    ),
                    deviation=noise * CLIPPING,
                    sample_rate=setting.batch / setting.images,
                    steps=setting.steps,
                )
                found += int(chances[0] > chances[1:].max())
            hits[pool].append(found)
    return hits


def reconstruction_hits(
    federation: Federation, captures: Sequence[Capture]
) -> dict[int, list[int]]:
    """1 for each client whose only image is nearest to its reconstruction, by size of the pool."""
    data = federation.federated.data
    hits: dict[int, list[int]] = {pool: [] for pool in POOLS}
    for capture in captures:
        client = capture.clients[0]
        guess = federation.reconstruct(
            round=1, client=client, labels="known", iterations=ITERATIONS
        ).rebuilt
        true = data.pixels(federation.federated.shard(client).images)
        for pool in POOLS:
            others = data.pixels(data.test_images[_others(federation, client, 0, pool)])
            error = (torch.cat([true, others]).cpu() - guess.cpu()).square().flatten(1).sum(1)
            hits[pool].append(int(error[0] < error[1:].min()))
    return hits


def measure(setting: Setting, noise: float, *, seeds: int, rebuild: bool) -> list[Share]:
    """Share of images that each attacker identifies, with the ceiling above it.

    Args:
        setting: Training of the clients.
        noise: Noise multiplier of DP-SGD.
        seeds: Number of federations.
        rebuild: Reconstruct the images of the first federation as well.
    """
    hits: dict[tuple[str, int], list[int]] = {}
    history: History = ()
    for seed, (federation, captures) in enumerate(releases(setting, noise, seeds=seeds)):
        history = federation.ledger.histories[0]
        attackers = {INFORMED: informed_hits(federation, captures, setting, noise)}
        if rebuild and not seed:
            attackers["reconstruction"] = reconstruction_hits(federation, captures)
        for name, by_pool in attackers.items():
            for pool, found in by_pool.items():
                hits.setdefault((name, pool), []).extend(found)
    shares = []
    for (name, pool), found in hits.items():
        sizes = [setting.images] * len(found)
        low, high = share_interval(found, sizes, level=SIGNIFICANT)
        limit = ceiling(history, 1 / pool)
        count = sum(sizes)
        shares.append(Share(name, noise, pool, sum(found) / count, low, high, count, limit))
    return shares


def run(options: Options) -> Report:
    """Measure both attackers, and draw them below the ceiling."""
    seeds = options.repeats or SEEDS
    arms: list[Arm] = []
    for setting in (ONE, SAMPLED):
        shares: list[Share] = []
        for noise in NOISES:
            console.print(f"{setting.name}, noise {noise:g}", highlight=False)
            shares += measure(setting, noise, seeds=seeds, rebuild=setting is ONE)
        arms += [Arm(setting.name, [s for s in shares if s.pool == pool]) for pool in POOLS]
    if options.picture:
        save(ceilings_picture(arms), options.picture)
        console.print(f"picture: {options.picture}", soft_wrap=True)
    every = [share for arm in arms for share in arm.shares]
    above = sum(share.low > share.ceiling for share in every)
    return Report(
        title="How often is an image identified under DP-SGD, and how often can it be?",
        settings={
            "images": f"digits, {CLIENTS} clients of 1 or 8 images, {seeds} seeds",
            "network": "mlp of width 32, untrained",
            "pool": "the true image and random test images of any class, with their labels",
            "reconstruction": f"default preset, {ITERATIONS} iterations, labels known, one seed",
            "clipping norm": CLIPPING,
        },
        figures=_figures(arms),
        claims=[
            Claim(
                f"with {100 * SIGNIFICANT:g} % confidence each, {above} of {len(every)} measured "
                "shares lie above their ceiling",
                not above,
            )
        ],
    )


def _figures(arms: Sequence[Arm]) -> list[Figure]:
    found = []
    for arm in arms:
        for share in arm.shares:
            where = f"{arm.name}, pool {share.pool}, z = {share.noise:g}"
            found.append(Figure(f"{where}: {share.attacker}", "", [share.share]))
            if share.attacker == INFORMED:
                found.append(Figure(f"{where}: ceiling", "", [share.ceiling]))
    return found


def _counts(federation: Federation, capture: Capture, setting: Setting) -> Tensor:
    """Number of batches in which each image of the client was, by a replay of its round."""
    client = capture.clients[0]
    task = task_for(federation.scenario, round=capture.round, client=client)
    before = before_last(federation.ledger.histories[client])
    done = run_client_round(
        task, federation.federated, capture.global_state, before, keep_batches=True
    )
    members = torch.cat([batch.members for batch in done.batches])
    return torch.bincount(members, minlength=setting.images).double()


def _others(federation: Federation, client: int, image: int, pool: int) -> Tensor:
    """The other images of a pool: places among the test images, drawn without replacement."""
    draws = generator(federation.scenario.seed, "ceiling pool", client, image)
    count = len(federation.federated.data.test_labels)
    return torch.randperm(count, generator=draws)[: pool - 1]
