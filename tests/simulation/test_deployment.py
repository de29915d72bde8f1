"""A deployment, in one process: clients with images of their own, and a server without truth."""

import math

import pytest

from fedlab import BadInput, Federation, RunFailed
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
    from fedlab.data import load

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


def test_another_scenario_is_refused_by_name(images, join):
    nodes = join(hospitals(images / "public", seed=1))
    with pytest.raises(RunFailed, match=r"client 0 does not take part: its scenario \(digest"):
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
