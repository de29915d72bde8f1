"""Searches on real digits: every preset, DLG's joint labels, budgets, restarts, starts, priors."""

import sys
import threading
from dataclasses import replace

import pytest
import torch
from torch import nn

from attacks.gradients import batch_gradient, unroll
from attacks.knowledge import Knowledge, LocalSGD
from attacks.payload import Payload
from attacks.reconstruction import PRESETS, AttackSettings, consistency, invert
from attacks.reconstruction.hooks import (
    collect_layer_inputs,
    features_distance,
    recovered_features,
    running_statistics,
    statistics_distance,
)
from attacks.reconstruction.priors import total_variation
from attacks.reconstruction.problem import Problem
from attacks.reconstruction.search import Search
from fedlab.data import load
from fedlab.metrics.images import psnr
from fedlab.models import build

QUICK = AttackSettings(iterations=12)


@pytest.fixture(scope="module")
def data():
    return load("digits")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def net(name="convnet", seed=3, **options):
    options.setdefault("width", 4 if name == "convnet" else None)
    return build(name, shape=(1, 8, 8), classes=10, seed=seed, **options)


def with_batch_norm():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(384, 10))


def some(data, count, seed=0):
    """Images of different classes."""
    order = torch.randperm(len(data.train_labels), generator=seeded(seed)).tolist()
    chosen = {}
    for place in order:
        chosen.setdefault(int(data.train_labels[place]), place)
    places = torch.tensor(list(chosen.values())[:count])
    return data.pixels(data.train_images[places]), data.train_labels[places]


def state(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def parts(model):
    return dict(model.named_parameters()), dict(model.named_buffers())


def leaked(data, model, pixels, labels):
    found = batch_gradient(model, *parts(model), data.normalise(pixels), labels)
    return Payload("gradient", found, num_examples=len(labels), steps=1)


def trained(data, model, pixels, labels, local, blocks=None):
    after = unroll(model, *parts(model), data.normalise(pixels), labels, local=local, blocks=blocks)
    weights = {name: value.detach() for name, value in after.items()}
    steps = len(local.blocks(len(labels)) if blocks is None else blocks)
    return Payload("weights", weights, num_examples=len(labels), steps=steps)


def known_of(data, n, labels=None, local=None, **more):
    return Knowledge(data.shape, 10, data.mean, data.std, n, labels, local, **more)


@pytest.fixture(scope="module")
def single(data):
    """A network, and the gradient of one digit with its label."""
    model = net()
    pixels, labels = some(data, 1)
    return model, leaked(data, model, pixels, labels), pixels, labels


def attacked(data, single, attack, **options):
    model, payload, _, labels = single
    options.setdefault("generator", seeded())
    return invert(model, state(model), payload, known_of(data, 1, labels), attack, **options)


FITTING = {
    "see-through-gradients": with_batch_norm,
    "analytic": lambda: net("mlp", width=20),
    "spear": lambda: net("mlp", width=20),
    "dlg": lambda: net("lenet"),
    "idlg": lambda: net("lenet"),
}


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"learned"}))  # which trains first
def test_every_preset_runs_on_a_network_that_fits_it(data, name):
    model = FITTING.get(name, net)()
    local = LocalSGD(0.05, batch_size=1) if name == "fedavg" else None
    count = 1 if name == "idlg" else 2
    pixels, labels = some(data, count)
    payload = (
        trained(data, model, pixels, labels, local)
        if local
        else leaked(data, model, pixels, labels)
    )
    found = invert(
        model,
        state(model),
        payload,
        known_of(data, count, local=local),
        replace(PRESETS[name], iterations=3),
        generator=seeded(),
    )
    assert found.images.shape == pixels.shape
    assert found.images.isfinite().all()
    assert 0 <= float(found.images.min()) <= float(found.images.max()) <= 1
    assert len(found.labels) == count
    assert len(found.costs) == (0 if name in ("analytic", "spear") else 3)


@pytest.mark.parametrize("seed", [0, 1])
def test_dlg_finds_a_digit_and_its_label_together(data, seed):
    model = net("lenet", seed=seed)
    pixels, labels = some(data, 1, seed)
    payload = leaked(data, model, pixels, labels)
    found = invert(
        model,
        state(model),
        payload,
        known_of(data, 1),
        replace(PRESETS["dlg"], iterations=60),
        generator=seeded(seed),
    )
    assert found.labels.shape == (1, 10)
    assert found.labels.sum(1).tolist() == pytest.approx([1])
    assert float(found.labels[0, labels[0]]) > 0.9
    assert float(psnr(pixels, found.images)) > 20


@pytest.fixture
def paces(monkeypatch):
    """The iterations that the schedule of each search was at, step by step."""
    noted, advance = {}, Search.advance

    def note(search, iteration, centre=None):
        noted.setdefault(id(search), []).append(iteration)
        advance(search, iteration, centre)

    monkeypatch.setattr(Search, "advance", note)
    return noted


class TestBudget:
    def test_time_budget_compresses_the_schedule(self, data, single, paces):
        found = attacked(data, single, AttackSettings(iterations=100_000), seconds=0.5)
        (places,) = paces.values()
        assert 2 < len(found.costs) == len(places) < 100_000
        assert found.seconds < 20
        assert places == sorted(places)
        assert places[0] < 50_000 < places[-1] <= 99_999

    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize("group", [0.0, 0.01])
    def test_every_restart_has_its_share(self, data, single, paces, workers, group):
        attack = AttackSettings(iterations=100_000, restarts=4, group=group)
        attacked(data, single, attack, seconds=1.2, workers=workers)
        assert len(paces) == 4
        for places in paces.values():
            assert 3 < len(places) < 100_000
            assert places[-1] > 50_000

    def test_without_one_every_iteration_is_done(self, data, single):
        assert attacked(data, single, QUICK).costs.shape == (12,)

    def test_unreached_budget_changes_little(self, data, single):
        long = attacked(data, single, AttackSettings(iterations=5), seconds=1000)
        assert torch.equal(long.images, attacked(data, single, AttackSettings(iterations=5)).images)


@pytest.mark.parametrize("group", [0.0, 0.01])
def test_whoever_watches_sees_images(data, single, group, monkeypatch):
    seen = []
    attack = AttackSettings(iterations=20, restarts=2, group=group, boxed=False)
    attacked(data, single, attack, watch=seen.append)
    assert sorted((p.restart, p.iteration) for p in seen) == [
        (0, 20),
        (1, 20),
    ]  # too short for more
    monkeypatch.setattr(sys.modules["attacks.reconstruction.watch"], "INTERVAL", 0.0)
    seen.clear()
    attacked(data, single, attack, watch=seen.append)
    every = [(restart, done) for restart in (0, 1) for done in range(1, 21)]
    assert sorted((p.restart, p.iteration) for p in seen) == every
    for progress in seen:
        assert progress.images.shape == (1, 1, 8, 8)
        assert 0 <= float(progress.images.min()) <= float(progress.images.max()) <= 1
        assert not progress.images.requires_grad
        assert progress.cost > 0


class Choosy:
    """A watch that wants every fifth iteration."""

    def __init__(self):
        self.seen = []

    def wants(self, iteration):
        return iteration % 5 == 0

    def __call__(self, progress):
        self.seen.append((progress.restart, progress.iteration))


@pytest.mark.parametrize(("group", "workers"), [(0.0, 1), (0.0, 2), (0.01, 1)])
def test_selective_watch_changes_no_bit(data, single, group, workers):
    attack = AttackSettings(iterations=12, restarts=2, group=group, langevin=0.1)
    watch = Choosy()
    watched = attacked(data, single, attack, workers=workers, watch=watch)
    assert sorted(watch.seen) == [(restart, done) for restart in (0, 1) for done in (5, 10, 12)]
    unwatched = attacked(data, single, attack, workers=workers)
    assert torch.equal(watched.images, unwatched.images)
    assert torch.equal(watched.costs, unwatched.costs)


def test_the_clock_does_not_call_a_watch_that_chooses(data, single, monkeypatch):
    monkeypatch.setattr(sys.modules["attacks.reconstruction.watch"], "INTERVAL", 0.0)
    watch = Choosy()
    attacked(data, single, QUICK, watch=watch)
    assert [done for _, done in watch.seen] == [5, 10, 12]


class TestWorkers:
    def test_restarts_in_threads_give_the_same_bits(self, data, single):
        attack = AttackSettings(iterations=15, restarts=4, langevin=0.1)
        threads = torch.get_num_threads()
        one, two = (attacked(data, single, attack, workers=count) for count in (1, 2))
        assert torch.get_num_threads() == threads
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.costs, two.costs)
        assert (one.restart, one.cost) == (two.restart, two.cost)

    def test_thread_count_is_restored_after_an_error(self, data, single):
        def refuse(_progress):
            raise RuntimeError("seen enough")

        threads = torch.get_num_threads()
        torch.set_num_threads(2)
        attack = AttackSettings(iterations=60, restarts=2)
        try:
            with pytest.raises(RuntimeError, match="seen enough"):
                attacked(data, single, attack, workers=2, watch=refuse)
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(threads)

    def test_the_network_is_left_as_it_was(self, data, single):
        model = single[0]
        before, hooks = state(model), [len(m._forward_pre_hooks) for m in model.modules()]
        attack = AttackSettings(iterations=5, restarts=3, features=0.1)
        attacked(data, single, attack, workers=3)
        assert [len(m._forward_pre_hooks) for m in model.modules()] == hooks
        assert all(torch.equal(value, before[name]) for name, value in state(model).items())

    def test_no_two_share_a_network(self, data, single):
        """Its weights are swapped in and out, and its hooks hear whoever runs through it."""
        used = {}

        class Watched(nn.Sequential):
            def forward(self, images):
                used.setdefault(id(self), set()).add(threading.get_ident())
                return super().forward(images)

        _, payload, _, labels = single
        model = Watched(*net())
        invert(
            model,
            state(model),
            payload,
            known_of(data, 1, labels),
            AttackSettings(iterations=3, restarts=3),
            generator=seeded(),
            workers=3,
        )
        assert len(used) == 3

    def test_hooked_priors_keep_the_bits(self, data, single):
        attack = AttackSettings(iterations=15, restarts=3, features=0.5)
        one, two = (attacked(data, single, attack, workers=count) for count in (1, 3))
        assert torch.equal(one.images, two.images)


class TestStart:
    def test_it_begins_with_the_given_images(self, data, single):
        _, _, pixels, _ = single
        still = AttackSettings(iterations=1, lr=1e-6, tv=0.0)
        found = attacked(data, single, still, initial_images=pixels)
        torch.testing.assert_close(found.images, pixels, atol=1e-4, rtol=0)
        assert found.cost < 1e-5
        other = attacked(data, single, still)
        assert float(psnr(pixels, other.images)) < 15

    def test_later_restarts_begin_nearby(self, data, single):
        _, _, pixels, _ = single
        seen = []
        attack = AttackSettings(iterations=50, lr=1e-6, tv=0.0, restarts=3)
        attacked(data, single, attack, initial_images=pixels, watch=seen.append)
        quality = [float(psnr(pixels, progress.images)) for progress in seen]
        assert quality[0] > 60
        assert all(25 < each < 50 for each in quality[1:])


class TestPatience:
    def test_it_stops_once_the_cost_no_longer_falls(self, data, single):
        stuck = AttackSettings(iterations=400, lr=1e-9, patience=10)
        found = attacked(data, single, stuck)
        assert len(found.costs) == 20

    def test_of_a_group_all_have_to_stop(self, data, single):
        stuck = AttackSettings(iterations=400, lr=1e-9, patience=10, restarts=2, group=0.01)
        assert len(attacked(data, single, stuck).costs) == 20

    def test_it_goes_on_while_the_cost_falls(self, data, single):
        falling = AttackSettings(iterations=60, lr=0.02, schedule="constant", patience=10)
        assert len(attacked(data, single, falling).costs) == 60


class TestPriors:
    def test_the_group_pulls_restarts_together(self, data, single):
        spread = {}
        for weight in (0.0, 1e-9, 50.0):
            ends = {}

            def note(progress, ends=ends):
                ends[progress.restart] = progress.images

            attack = AttackSettings(iterations=100, restarts=3, group=weight, sign="none")
            attacked(data, single, attack, watch=note)
            spread[weight] = float(torch.stack([ends[r] for r in range(3)]).std(0).mean())
        assert spread[50.0] < 0.3 * spread[0.0]
        assert spread[1e-9] == pytest.approx(spread[0.0], rel=0.05)

    @pytest.mark.parametrize("prior", ["statistics", "features"])
    def test_layer_priors_refuse_weights(self, data, prior):
        model = with_batch_norm()
        local = LocalSGD(0.05, batch_size=2)
        pixels, labels = some(data, 2)
        payload = trained(data, model, pixels, labels, local)
        with pytest.raises(ValueError, match="for the gradient of one batch"):
            invert(
                model,
                state(model),
                payload,
                known_of(data, 2, labels, local),
                replace(QUICK, **{prior: 0.1}),
                generator=seeded(),
            )

    def test_statistics_without_batch_norm_are_refused(self, data, single):
        with pytest.raises(ValueError, match="BatchNorm that keeps them"):
            attacked(data, single, replace(QUICK, statistics=0.1))

    def test_a_refusal_leaves_no_hooks(self, data):
        model = net()
        pixels, labels = some(data, 1)
        payload = leaked(data, model, pixels, labels)
        with pytest.raises(ValueError, match="BatchNorm"):
            invert(
                model,
                state(model),
                payload,
                known_of(data, 1, labels),
                replace(QUICK, statistics=0.1, features=0.1),
                generator=seeded(),
            )
        assert not any(m._forward_pre_hooks for m in model.modules())

    def test_features_come_nearer_to_the_recovered_ones(self, data, single):
        model, payload, pixels, labels = single
        recovered = recovered_features(model, payload.tensors, labels)
        distances, quality = [], []
        for weight in (0.0, 1.0):
            found = attacked(data, single, AttackSettings(iterations=60, features=weight))
            with collect_layer_inputs(model) as inputs, torch.no_grad():
                model(data.normalise(found.images))
            distances.append(float(features_distance(inputs, recovered)))
            quality.append(float(psnr(pixels, found.images)))
        assert distances[1] < 0.7 * distances[0], (distances, quality)

    def test_statistics_prior_uses_given_or_running_ones(self, data):
        model = with_batch_norm()
        pixels, labels = some(data, 4)
        payload = leaked(data, model, pixels, labels)
        with collect_layer_inputs(model) as inputs, torch.no_grad():
            model(data.normalise(pixels))
        model.load_state_dict(state(model))
        heard = inputs.batch_norms["1"]
        own = {"1": (heard.mean((0, 2, 3)), heard.var((0, 2, 3), unbiased=False))}
        start = state(model)
        running = running_statistics(model, start)
        found = {
            name: invert(
                model,
                start,
                payload,
                known_of(data, 4, labels, statistics=statistics),
                AttackSettings(iterations=60, match=1e-3, statistics=1.0, tv=0.0, sign="none"),
                generator=seeded(),
            )
            for name, statistics in (("own", own), ("running", None))
        }
        for name, reference in (("own", own), ("running", running)):
            distances = {}
            for other, result in found.items():
                with collect_layer_inputs(model) as inputs, torch.no_grad():
                    model(data.normalise(result.images))
                distances[other] = float(statistics_distance(inputs, reference))
            assert min(distances, key=distances.get) == name, distances


def test_the_total_variation_starts_strong(data, single):
    first = torch.rand(single[2].shape, generator=seeded(1))
    seen = []

    def penalty(images, context):
        seen.append(float(total_variation(images.detach())))
        return images.new_zeros(())

    for start in (1.0, 1e6):
        attack = AttackSettings(
            tv=1e-4, tv_start=start, iterations=20, sign="none", priors=((penalty, 1.0),)
        )
        attacked(data, single, attack, initial_images=first)
    plain, raised = seen[:20], seen[20:]
    assert raised[10] < 0.7 * plain[10]


@pytest.mark.parametrize("wrong", [{"tv_start": 0.5}, {"smoothing": -1.0}])
def test_a_weaker_start_or_roughening_is_refused(wrong):
    with pytest.raises(ValueError, match="must be at least"):
        AttackSettings(**wrong)


@pytest.mark.parametrize("chroma", [0.0, 1.5])
def test_no_colour_or_more_than_all_is_refused(chroma):
    with pytest.raises(ValueError, match="chroma must be in"):
        AttackSettings(chroma=chroma)


class TestOrder:
    def shuffled(self, data, epochs=3):
        model = net()
        pixels, labels = some(data, 6)
        local = LocalSGD(0.2, momentum=0.5, epochs=epochs, batch_size=2)
        blocks = tuple(
            block
            for epoch in range(epochs)
            for block in torch.randperm(6, generator=seeded(epoch)).split(2)
        )
        return model, pixels, labels, local, blocks

    def test_known_order_reproduces_shuffled_epochs(self, data):
        model, pixels, labels, local, blocks = self.shuffled(data)
        payload = trained(data, model, pixels, labels, local, blocks)
        errors = {}
        for name, order in (
            ("known", blocks),
            ("sequential", "sequential"),
            ("average", "average"),
        ):
            known = known_of(data, 6, labels, local, order=order)
            inputs = data.normalise(pixels)
            found = consistency(model, state(model), payload, known, inputs, labels)
            errors[name] = found.relative_error
        assert errors["known"] < 1e-5
        assert errors["sequential"] > 1e-2
        assert errors["average"] > 1e-2

    def test_order_has_indices_of_images(self, data):
        model, pixels, labels, local, blocks = self.shuffled(data)
        payload = trained(data, model, pixels, labels, local, blocks)
        turned = torch.tensor([5, 0, 1, 2, 3, 4])
        places = turned.argsort()
        known = known_of(
            data, 6, labels[turned], local, order=tuple(places[block] for block in blocks)
        )
        inputs = data.normalise(pixels)[turned]
        found = consistency(model, state(model), payload, known, inputs, labels[turned])
        assert found.relative_error < 1e-5

    def test_the_average_is_full_steps_on_all_images(self, data):
        model, pixels, labels, _, _ = self.shuffled(data)
        inputs = data.normalise(pixels)
        local = LocalSGD(0.1, epochs=2, batch_size=2)
        known = known_of(data, 6, labels, local, order="average")
        payload = trained(data, model, pixels, labels, local)
        problem = Problem.of(model, state(model), payload, known)
        found = problem.simulate(inputs, labels, create_graph=False)
        start = {name: p.detach() for name, p in model.named_parameters()}
        whole = LocalSGD(0.1, epochs=6, batch_size=6)
        after = unroll(model, start, {}, inputs, labels, local=whole)
        for name, descent in found.items():
            torch.testing.assert_close(descent, start[name] - after[name])


class TestKeep:
    @staticmethod
    def wild(keep):
        return AttackSettings(
            iterations=30, lr=3.0, tv=0.0, schedule="constant", boxed=False, keep=keep
        )

    def test_the_best_and_the_last(self, data, single):
        best, last = (attacked(data, single, self.wild(keep)) for keep in ("best", "last"))
        assert torch.equal(best.costs, last.costs)
        assert best.cost <= float(best.costs.min()) + 1e-6
        assert last.cost > best.cost

    def test_initial_images_of_another_shape_are_refused(self, data, single):
        with pytest.raises(ValueError, match="the initial images have shape"):
            attacked(data, single, self.wild("last"), initial_images=torch.zeros(1, 1, 4, 4))


def test_weight_decay_is_no_part_of_the_mean_gradient(data):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    pixels, labels = data.pixels(data.train_images[:1]), data.train_labels[:1]
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    local = LocalSGD(lr=0.1, weight_decay=0.01)
    after = unroll(model, start, {}, data.normalise(pixels), labels, local=local)
    payload = Payload("weights", {n: t.detach() for n, t in after.items()}, 1, 1)
    known = Knowledge(data.shape, 10, data.mean, data.std, 1, labels, local)
    found = Problem.of(model, start, payload, known).mean_gradient()
    true = batch_gradient(model, start, {}, data.normalise(pixels), labels)
    for name, tensor in true.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-4)
