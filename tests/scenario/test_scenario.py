import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from fedlab.core.errors import BadInput
from fedlab.defenses.dp_sgd import DPSGD
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
        (QUICK, ["engine.address=auto"], ["engine", 'set engine.name = "ray"']),
        (QUICK, ["engine.name=ray", "engine.address=head"], ["engine.address", "host:port"]),
        (QUICK, ["engine.name=ray", "engine.address=ray://h:1"], ["engine.address", "host:port"]),
    ],
)
def test_bad_scenarios_get_one_sentence(toml: str, overrides: list[str], words: list[str]) -> None:
    sentence = refusal(toml, *overrides)
    for word in words:
        assert word in sentence


NESTED = "a = " + "[" * 5000 + "]" * 5000


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        (NESTED, "not valid TOML"),
        ("a." * 10**5 + "a = 1", "a line with more than 500 dots"),
        ("seed = " + "9" * 6000, "not valid TOML"),
        ("rounds = true", "the scenario has true for rounds, which is a number"),
        ("[server]\nmin_clients = false", "server has false for min_clients"),
        ("[[defenses]]\nname = 'dp-sgd'\nnoise_multiplier = true", "has true for noise_multiplier"),
        ("seed = " + "9" * 4000, "beyond 64 bits in seed"),
        (
            "[server]\noptions = { beta = 99999999999999999999 }",
            "beyond 64 bits in server.options.beta",
        ),
        ("rounds = 1000000000\n[[defenses]]\nname = 'dp-sgd'\n", "rounds: "),
        ("[data]\nclients = 1000000000\n[[roles]]\nrole = 'leaking'\n", "data.clients: "),
        ("rounds = 100000\n[data]\nclients = 100000\n", "at most 100,000,000"),
        ("rounds = 50000\n" + "[[roles]]\nrole = 'leaking'\nclients = '1'\n" * 300, "300 entries"),
        ("[model]\nwidth = 100000000", "model.width: "),
        ("[engine]\nthreads = 3000000000", "engine.threads: "),
        ("[training]\nepochs = 1000000000", "training.epochs: "),
        ("[data]\nimage_size = 1000000000", "data.image_size: "),
        ("[[defenses]]\nname = 'maxup'\ncopies = 1000000000", "defenses.0.copies: "),
        ("[[roles]]\nrole = 'leaking'\nrounds = '1-999999999999'", "names round 999999999999"),
        ("[[roles]]\nrole = 'leaking'\nclients = '" + "0," * 20000 + "0'", "is too long"),
        ("name = ''", "name: must be 1 to 200 printable"),
        ("name = '" + "a" * 201 + "'", "name: must be 1 to 200 printable"),
        ('name = "a\\u0000b"', "name: must be 1 to 200 printable"),
        ('name = "\\u001b[31mred"', "name: must be 1 to 200 printable"),
    ],
    ids=lambda value: value[:24],
)
def test_absurd_scenarios_are_refused_at_once(toml: str, words: str) -> None:
    assert words in refusal(toml)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed=" + "9" * 6000, "seed: "),
        ("seed=" + "[" * 5000, "seed: "),
        ("roles.0.x=1", "ends at a value"),
        ("roles.0.x.y=1", "does not lead anywhere"),
        ("roles.leaking.x=1", 'no entry "leaking"'),
        ("roles." + "9" * 5000 + ".x=1", "no entry"),
        ("roles.x=1", "ends at a list"),
        (".=1", "no key"),
    ],
    ids=lambda value: value[:24],
)
def test_odd_overrides_cost_one_sentence(override: str, words: str) -> None:
    toml = QUICK.replace("[data]", "roles = [3]\n[data]")
    with pytest.raises(BadInput) as caught:
        Scenario.parse(toml, [override])
    assert words in str(caught.value)


def test_python_and_toml_give_the_same_sentence() -> None:
    for key, value in (("rounds", 0), ("lr", 1), ("data", {"clients": 0}), ("seed", -1)):
        with pytest.raises(BadInput) as caught:
            Scenario(**{key: value})
        assert str(caught.value) == refusal(tomli_w.dumps({key: value}))
    with pytest.raises(BadInput, match=r"noise_multiplier: .*greater than or equal to 0"):
        DPSGD(noise_multiplier=-1)
    with pytest.raises(BadInput, match="no key"):
        Scenario.model_validate({"runds": 1})


def test_a_bom_and_windows_line_ends_are_read(tmp_path) -> None:
    file = tmp_path / "s.toml"
    file.write_bytes(b"\xef\xbb\xbf" + QUICK.replace("\n", "\r\n").encode())
    assert Scenario.load(file) == Scenario.parse(QUICK)


def test_a_file_too_large_for_a_scenario(tmp_path) -> None:
    (tmp_path / "s.toml").write_text("#" * 4_000_001)
    with pytest.raises(BadInput, match="no scenario: it has more than 4,000,000 bytes"):
        Scenario.load(tmp_path / "s.toml")
    with pytest.raises(BadInput, match="cannot be read"):
        Scenario.load("x" * 5000)


class TestFewerRounds:
    TOML = (
        QUICK
        + '[[roles]]\nrole = "leaking"\nclients = "0"\nrounds = "2-4"\n'
        + '[[roles]]\nrole = "poisoning"\nclients = "9"\n'
        + '[[defenses]]\nname = "dp-sgd"\nrounds = "5-"\n'
        + '[[defenses]]\nname = "dp-sgd"\nrounds = "every 2"\nclients = "9"\n'.replace("9", "1")
        + '[server]\nmalicious = { attack = "class-fishing", rounds = "7" }\n'
    )

    def test_the_schedule_is_cut_with_a_note(self, caplog) -> None:
        toml = self.TOML.replace('"5-"', '"5,7"')
        scenario = Scenario.parse(toml, ["rounds=3"])
        assert [each.rounds for each in scenario.roles] == ["2-3", "all"]
        assert [each.rounds for each in scenario.defenses] == ["every 2"]
        assert scenario.server.malicious is None
        assert caplog.messages == [
            "rounds = 3 instead of 8 cuts the schedule: roles.0 (2-4) keeps 2-3, "
            "defenses.0 (5,7) is left out, server.malicious (7) is left out"
        ]
        assert Scenario.parse(toml).changed(rounds=3) == scenario

    def test_a_file_with_too_few_rounds_is_refused(self) -> None:
        assert "names round 4" in refusal(self.TOML.replace("rounds = 8", "rounds = 3"))

    def test_what_cannot_be_read_is_still_refused(self) -> None:
        assert "cannot be read" in refusal(self.TOML.replace("2-4", "two"), "rounds=3")
        assert "roles" in refusal("rounds = 8\nroles = [3]", "rounds=3")


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
