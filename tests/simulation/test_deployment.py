"""A deployment, in one process: clients with images of their own, and a server without truth."""

import math

import pytest
from PIL import Image

from fedlab import BadInput, Federation, RunFailed
from fedlab.client.client_round import run_client_round
from fedlab.data import load
from fedlab.evaluation.leaks import load_leaks
from fedlab.report.page.write import write_page
from tests.own_images import NODES, Hospitals, hospitals, write_images

DP = [{"name": "dp-sgd", "noise_multiplier": 1.0}]
HONEST = {"roles": [], "reconstructions": []}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The folder of public images and those of all hospitals."""
    folder = tmp_path_factory.mktemp("images")
    for place, name in enumerate(["public", *map(str, range(NODES))]):
        write_images(folder / name, 8 * place)
    write_images(folder / "fewer", 0, classes=3)
    return folder


@pytest.fixture
def join(images, tmp_path):
    """Makes the nodes, which hold a scenario, and own the images of these folders."""

    def make(scenario, folders=("0", "1", "2")):
        file = tmp_path / "own.toml"
        file.write_text(scenario.to_toml())
        return Hospitals(
            [{"images": f"folder:{images / name}", "scenario": str(file)} for name in folders]
        )

    return make


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    """A run of two rounds, of which client 1 misses the second."""
    scenario = hospitals(images / "public")
    file = tmp_path_factory.mktemp("own") / "own.toml"
    file.write_text(scenario.to_toml())
    grid = Hospitals(
        [
            {"images": f"folder:{images / str(client)}", "scenario": str(file)}
            for client in range(NODES)
        ]
    )
    run = Federation(scenario, grid=grid, out=tmp_path_factory.mktemp("run"))
    run.step()
    grid.dead.add(1)
    run.step()
    return run


def test_images_are_rebuilt_and_not_graded(finished):
    leakage = finished.folder.table("leakage")
    assert sorted(zip(leakage["round"], leakage["client"], strict=True)) == [
        (1, 0), (1, 1), (1, 2), (2, 0), (2, 2),
    ]  # fmt: skip
    assert set(leakage["target"]) == {"unknown"}
    assert set(leakage["verdict"]) == {"unscored"}
    assert leakage["psnr"].isna().all()
    assert not leakage["known_labels"].any()


def test_what_is_rebuilt_is_of_the_clients_own_folder(finished, images):
    held = [load(f"folder:{images / str(client)}") for client in range(NODES)]
    for leak in load_leaks(finished.folder.leaks(1)):
        apart = [
            (data.pixels(data.train_images) - leak.rebuilt).square().mean((1, 2, 3)).min().item()
            for data in held
        ]
        assert apart[leak.rows[0].client] == min(apart) < 1e-4
        assert leak.originals.isnan().all()


def test_the_page_says_who_was_missing(finished):
    page = write_page(finished.folder).read_text()
    assert "Clients that were missing or refused" in page
    assert "its node is not there" in page
    assert "neither scored nor graded" in page
    assert "Leak: <strong>inconclusive</strong>" in page


@pytest.fixture
def hub(images, tmp_path, monkeypatch):
    """The public images as a set of the Hub with two columns of class labels."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    public = load(f"folder:{images / 'public'}")
    features = {
        "image": datasets.Image(),
        "ward": datasets.ClassLabel(names=["east"]),
        "kind": datasets.ClassLabel(names=list(public.classes)),
    }
    (tmp_path / "hub").mkdir()
    for split in ("train", "test"):
        pixels, labels = (getattr(public, f"{split}_{part}") for part in ("images", "labels"))
        pictures = [Image.fromarray(each.squeeze(0).numpy()) for each in pixels]
        rows = {"image": pictures, "ward": [0] * len(labels), "kind": labels.tolist()}
        made = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
        made.to_parquet(tmp_path / "hub" / f"{split}.parquet")
    return {"source": f"hf:{tmp_path / 'hub'}", "label_by": "kind", "clients": NODES}


def test_own_folders_stand_beside_a_set_of_the_hub(images, join, hub):
    """The column of the public labels says nothing about a client's folder."""
    scenario = hospitals(images / "public", data=hub)
    federation = Federation(scenario, grid=join(scenario))
    federation.step()
    assert federation.folder.table("clients")["status"].tolist() == ["ok"] * NODES
    with pytest.raises(BadInput, match="2 columns of class labels"):
        Federation(scenario.changed(data=hub | {"label_by": None}), grid=join(scenario))


def test_another_scenario_is_refused_by_name(images, join):
    nodes = join(hospitals(images / "public", seed=1))
    with pytest.raises(RunFailed, match=r"client 0 does not take part: its scenario \(digest"):
        Federation(hospitals(images / "public"), grid=nodes).step()


def test_all_clients_that_refuse_are_named(images, join):
    nodes = join(hospitals(images / "public", seed=1))
    with pytest.raises(RunFailed, match=r"client 0 does .*; client 1 does .*; client 2 does not"):
        Federation(hospitals(images / "public"), grid=nodes).step()


def test_other_classes_are_refused_by_name(images, join):
    scenario = hospitals(images / "public")
    with pytest.raises(RunFailed, match="the server has the classes class-0, class-1, class-2, cl"):
        Federation(scenario, grid=join(scenario, ("0", "fewer", "2"))).step()


def test_a_client_keeps_the_defense_it_agreed_to(images, join):
    scenario = hospitals(images / "public", defenses=DP, **HONEST)
    run = Federation(scenario, grid=join(scenario))
    run.step()
    with pytest.raises(BadInput, match="keep to the scenario"):
        run.toggle("dp-sgd", on=False)
    run.scenario = scenario.changed(defenses=[])  # a server that breaks its word
    with pytest.raises(RunFailed, match="its task is not the one that the scenario gives it"):
        run.step()


def test_a_simulation_gets_no_images(images, join):
    simulation = hospitals(images / "public", engine={"device": "cpu"})
    nodes = join(hospitals(images / "public"))
    with pytest.raises(RunFailed, match="the server runs a simulation"):
        Federation(simulation, grid=nodes).step()


def test_a_restarted_node_goes_on_with_its_ledger(images, join):
    scenario = hospitals(images / "public", defenses=DP, **HONEST)
    nodes = join(scenario)
    run = Federation(scenario, grid=nodes)
    first = run.step().ledger[0].epsilon_total
    nodes.restart()
    assert math.inf > run.step().ledger[0].epsilon_total > first


class Dying(Exception):
    """The server's process ends here."""


def test_replies_that_a_dead_server_never_read_count(images, join, tmp_path, monkeypatch):
    scenario = hospitals(images / "public", defenses=DP, **HONEST)
    nodes = join(scenario)
    run = Federation(scenario, grid=nodes, out=tmp_path / "run")
    once = run.step().ledger

    def dies(messages, **_):
        list(Hospitals.send_and_receive(nodes, messages))
        raise Dying

    monkeypatch.setattr(nodes, "send_and_receive", dies)
    with pytest.raises(Dying):
        run.step()
    run.folder.release()
    counted = run.folder.ledger()
    assert all(counted.total(client) > once[client].epsilon_total for client in range(NODES))

    monkeypatch.undo()
    nodes.restart()  # a new Flower run has a new state at each client
    again = Federation.resume(tmp_path / "run", grid=nodes)
    again.run()
    assert [[e.round for e in h] for h in again.ledger.histories.values()] == [[1, 2, 2]] * NODES
    assert [e.participation for e in again.ledger.histories[0]] == [0, 1, 2]
    assert again.ledger.histories == again.folder.spending()


def lost(nodes, monkeypatch):
    """The reply of client 1 gets lost on its way."""

    def received(messages, **_):
        replies = Hospitals.send_and_receive(nodes, messages)
        return [
            each
            for each in replies
            if (each.metadata.message_type, each.metadata.src_node_id) != ("train", 2)
        ]

    monkeypatch.setattr(nodes, "send_and_receive", received)


def failed(_nodes, monkeypatch):
    """Client 1 fails, and says so."""

    def run_round(task, *arguments, **options):
        if task.client == 1:
            raise RuntimeError("it broke")
        return run_client_round(task, *arguments, **options)

    monkeypatch.setattr("fedlab.client.app.run_client_round", run_round)


@pytest.mark.parametrize(("event", "rounds"), [(lost, [1, 2, 3]), (failed, [1, 3])])
def test_only_a_client_that_says_so_spent_nothing(
    images, join, tmp_path, monkeypatch, event, rounds
):
    scenario = hospitals(images / "public", defenses=DP, **HONEST)
    scenario = scenario.changed(rounds=3, server={"max_failures": 0.5})
    nodes = join(scenario)
    run = Federation(scenario, grid=nodes, out=tmp_path / "run")
    run.step()
    with monkeypatch.context() as during:
        event(nodes, during)
        assert (1 in {row.client for row in run.step().ledger}) is (2 in rounds)
    assert run.ledger.histories == run.folder.spending()
    run.step()  # a client whose reply was lost declares it now, which is not counted twice
    assert [entry.round for entry in run.ledger.histories[1]] == rounds
    assert run.ledger.histories == run.folder.spending()


@pytest.mark.parametrize("defense", [DP[0], {"name": "dp-instahide", "k": 2, "frozen": 8}])
def test_a_node_that_is_started_anew_hears_what_nobody_answered(
    images, join, tmp_path, monkeypatch, defense
):
    scenario = hospitals(images / "public", rounds=4, defenses=[defense], **HONEST)
    nodes = join(scenario)
    run = Federation(scenario, grid=nodes, out=tmp_path / "run")
    run.step()
    with monkeypatch.context() as during:
        lost(nodes, during)
        run.step()
    nodes.restart()
    rows = {row.client: row for row in run.step().clients}
    assert rows[1].status == "ok", rows[1].reason
    assert [e.round for e in run.ledger.histories[1]] == [1, 2, 3]
    assert [e.participation for e in run.ledger.histories[1]] == [0, 1, 2]
    run.step()
    assert [e.round for e in run.ledger.histories[1]] == [1, 2, 3, 4]
    assert run.ledger.histories == run.folder.spending()


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        ({"reconstructions": [{"labels": "known"}]}, "the server knows no labels"),
        ({"defenses": [{"name": "dp-sgd", "target_epsilon": 3.0}], **HONEST}, "target_epsilon"),
    ],
)
def test_what_needs_the_clients_images_is_refused(images, join, tables, sentence):
    scenario = hospitals(images / "public", **tables)
    with pytest.raises(BadInput, match=sentence):
        Federation(scenario, grid=join(scenario))


def test_a_deployment_needs_its_nodes(images):
    with pytest.raises(BadInput, match="fedlab deploy"):
        Federation(hospitals(images / "public"))
