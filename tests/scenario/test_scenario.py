import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlab.core.errors import BadInput
from fedlab.scenario.scenario import Scenario, packaged

QUICK = "rounds = 8\n[data]\nclients = 10\n"


def refusal(toml: str, *overrides: str) -> str:
    with pytest.raises(BadInput) as caught:
        Scenario.parse(toml, overrides)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("name", packaged())
def test_packaged_scenarios_round_trip_through_toml(name: str) -> None:
    scenario = Scenario.load(name)
    assert Scenario.parse(scenario.to_toml()) == scenario
    assert scenario.name == name


@given(
    seed=st.integers(0, 2**40),
    rounds=st.integers(1, 50),
    lr=st.floats(1e-6, 10),
    clipping=st.floats(1e-3, 1e3),
    scale=st.floats(0, 2),
    leaking=st.sampled_from(["fixed", "poisson"]),
    options=st.dictionaries(st.text("abc_", min_size=1), st.floats(-1e6, 1e6) | st.booleans()),
)
def test_any_scenario_round_trips_through_toml(
    seed: int, rounds: int, lr: float, clipping: float, scale: float, leaking: str, options: dict
) -> None:
    scenario = Scenario.model_validate(
        {
            "seed": seed,
            "rounds": rounds,
            "training": {"lr": lr},
            "server": {"options": options},
            "roles": [
                {"role": "leaking", "clients": "0", "sampling": leaking},
                {"role": "poisoning", "clients": "1", "data": {"attack": "badnets"}},
            ],
            "defenses": [
                {"name": "dp-sgd", "clients": "0-4", "clipping_norm": clipping},
                {"name": "dp-instahide", "clients": "5-9", "scale": scale},
            ],
            "reconstructions": [{"clients": 0}],
        }
    )
    assert Scenario.parse(scenario.to_toml()) == scenario


def test_overrides_reach_tables_and_entries() -> None:
    scenario = Scenario.load(
        "quickstart",
        ["training.lr=0.05", "roles.0.batch_size=4", "defenses.dp-sgd.noise_multiplier=0"],
    )
    assert scenario.training.lr == 0.05
    assert scenario.roles[0].batch_size == 4
    private = [entry for entry in scenario.defenses if entry.name == "dp-sgd"]
    assert [entry.noise_multiplier for entry in private] == [0, 0]


@pytest.mark.parametrize(
    ("toml", "overrides", "words"),
    [
        ("runds = 3", [], ['no key "runds"', 'did you mean "rounds"']),
        (QUICK, ["training.lerning_rate=1"], ["training", "lerning_rate"]),
        (QUICK, ["training.batchsize=1"], ['did you mean "batch_size"']),
        (
            QUICK + '[[defenses]]\nname = "dp-sgd"\nnoise_multiplir = 1\n',
            [],
            ["noise_multiplir", 'did you mean "noise_multiplier"'],
        ),
        (QUICK + '[[defenses]]\nname = "dp-sdg"\n', [], ["dp-sdg", 'did you mean "dp-sgd"']),
        (QUICK + '[[roles]]\nrole = "leaky"\n', [], ['did you mean "leaking"']),
        (QUICK, ["training.lr=-1"], ["training.lr", "greater than 0"]),
        (QUICK + '[[defenses]]\nname = "dp-sgd"\nrounds = "9"\n', [], ["defenses.0", "round 9"]),
        (QUICK + '[[roles]]\nrole = "leaking"\nclients = "10"\n', [], ["roles.0", "client 10"]),
        (
            QUICK
            + '[[roles]]\nrole = "leaking"\nclients = "0-3"\n'
            + '[[roles]]\nrole = "poisoning"\nclients = "3-4"\nrounds = "5-"\n',
            [],
            ["round 5, client 3", "leaking", "poisoning"],
        ),
        (
            QUICK
            + '[[defenses]]\nname = "dp-sgd"\nrounds = "1-4"\n'
            + '[[defenses]]\nname = "dp-instahide"\nrounds = "4-"\nclients = "7"\n',
            [],
            ["round 4, client 7", "clipping", "different rounds or clients"],
        ),
        (
            QUICK + '[model]\nnorm = "batch"\n[[defenses]]\nname = "dp-sgd"\n',
            [],
            ["BatchNorm", 'norm = "group"'],
        ),
        (QUICK + "[server]\ncohort = 11\n", [], ["server.cohort is 11", "10 clients"]),
        (
            QUICK + '[[reconstructions]]\npreset = "inverting-gradient"\n',
            [],
            ['did you mean "inverting-gradients"'],
        ),
        ("rounds = ", [], ["not valid TOML"]),
        (QUICK, ["training"], ["write it as --set"]),
        (QUICK, ["roles.3.batch_size=1"], ["does not lead anywhere"]),
        (QUICK, ["data.source=factory"], ["data.factory"]),
    ],
)
def test_bad_scenarios_get_one_sentence(toml: str, overrides: list[str], words: list[str]) -> None:
    sentence = refusal(toml, *overrides)
    for word in words:
        assert word in sentence


def test_missing_scenario_lists_known_ones() -> None:
    with pytest.raises(BadInput, match="quickstart"):
        Scenario.load("no-such")


def test_role_can_change_in_a_later_round() -> None:
    toml = QUICK + '[[roles]]\nrole = "poisoning"\nclients = "2"\nrounds = "5-"\n'
    scenario = Scenario.parse(toml)
    assert scenario.role(round=4, client=2).role == "honest"
    assert scenario.role(round=5, client=2).role == "poisoning"


def test_update_attacker_skips_defenses_by_default() -> None:
    toml = QUICK + '[[defenses]]\nname = "dp-sgd"\n[[roles]]\nrole = "poisoning"\nclients = "2"\n'
    update = "roles.0.update={attack='scaling', factor=2.0}"

    def runs(*overrides: str) -> int:
        return len(Scenario.parse(toml, overrides).defenses_on(round=1, client=2))

    assert runs() == 1
    assert runs(update) == 0
    assert runs(update, "roles.0.obeys_defenses=true") == 1


def test_known_order_needs_known_labels():
    with pytest.raises(BadInput, match='needs labels = "known"'):
        Scenario.parse('[[reconstructions]]\norder = "known"\nlabels = "inferred"\n')
