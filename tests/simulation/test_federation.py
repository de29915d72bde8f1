"""Federation: determinism, resumes, toggles, failures and attacks on demand."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, Error

from fedlab import BadInput, Federation, RunFailed
from fedlab.client import federated_data
from fedlab.core.files import write_atomically
from fedlab.defenses.pruning import Pruning
from fedlab.privacy.accountant import epsilon
from fedlab.results.attacks import counted_images, empty_updates, scored_images
from fedlab.results.checkpoint import Checkpoint
from fedlab.results.folder import RunFolder
from fedlab.server.aggregation import Aggregation
from tests.federations import PLAIN, Tampered, finished, small

DP = {"name": "dp-sgd", "noise_multiplier": 1.0}
MIX = {"name": "dp-instahide", "k": 3}
LEAK = {"role": "leaking", "clients": "0"}
ATTACK = {"clients": "0", "iterations": 5}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class TestDeterminism:
    def test_same_seed_gives_the_same_bits(self):
        busy = small(roles=[LEAK], defenses=[DP | {"clients": "1"}, MIX | {"clients": "2"}])
        one, again = finished(busy), finished(busy)
        assert same(one.state, again.state)
        other = finished(busy.changed(seed=1))
        assert not same(one.state, other.state)

    def test_attack_does_not_change_the_training(self):
        quiet = small(roles=[LEAK], rounds=2)
        attacked = quiet.changed(reconstructions=[ATTACK])
        assert same(finished(quiet).state, finished(attacked).state)

    def test_cohort_follows_the_seed(self):
        federation = finished(small(server={"cohort": 2}))
        table = federation.folder.table("clients")
        sampled = table.groupby("round")["client"].apply(tuple)
        assert (table.groupby("round").size() == 2).all()
        assert len(set(sampled)) > 1
        again = finished(small(server={"cohort": 2})).folder.table("clients")
        assert table.equals(again)

    def test_client_may_start_poisoning_later(self):
        turning = small(roles=[{"role": "poisoning", "rounds": "3-", "clients": "1"}])
        table = finished(turning).folder.table("clients")
        roles = table[table["client"] == 1]["role"].tolist()
        assert roles == ["honest", "honest", "poisoning", "poisoning"]
        honest, poisoned = Federation(small()), Federation(turning)
        for _ in range(2):
            honest.step(), poisoned.step()
        assert same(honest.state, poisoned.state)
        honest.step(), poisoned.step()
        assert not same(honest.state, poisoned.state)


def test_images_that_are_loaded_already_give_the_same_bits(tmp_path, monkeypatch):
    scenario = small(rounds=2, data={"train": 100, "test": 50, "clients": 2})
    whole = finished(scenario)
    images = federated_data.whole_images(scenario.data)
    monkeypatch.delattr(federated_data, "whole_images")
    Federation(scenario, out=tmp_path / "run", images=images).step()
    resumed = Federation.resume(tmp_path / "run", images=images)
    resumed.run()
    assert same(whole.state, resumed.state)


class TestResume:
    @pytest.mark.parametrize(
        "server",
        [
            {"strategy": "FedAvg"},
            {"strategy": "FedAvgM", "options": {"server_momentum": 0.9}},
            {"strategy": "FedAdam", "options": {"eta": 0.05}},
        ],
        ids=lambda server: server["strategy"],
    )
    def test_resumed_run_ends_like_an_uninterrupted_one(self, tmp_path, server):
        scenario = small(
            server=server,
            roles=[LEAK],
            defenses=[DP | {"clients": "1"}, DP | {"clients": "0", "rounds": "2,4"}],
            reconstructions=[ATTACK],
        )
        whole = finished(scenario, out=tmp_path / "whole")
        broken = Federation(scenario, out=tmp_path / "broken")
        broken.step()
        broken.step()
        resumed = Federation.resume(tmp_path / "broken")
        assert resumed.round == 2
        resumed.run()
        assert same(whole.state, resumed.state)
        for table in ("ledger", "clients"):
            assert whole.folder.table(table).equals(resumed.folder.table(table)), table
        times = ["seconds"]
        one, other = (f.folder.table("leakage").drop(columns=times) for f in (whole, resumed))
        assert one.equals(other)
        assert [r.accuracy for r in whole.folder.rounds()] == [
            r.accuracy for r in resumed.folder.rounds()
        ]

    def test_kill_before_the_checkpoint_repeats_the_round(self, tmp_path, monkeypatch):
        scenario = small()
        whole = finished(scenario)
        federation = Federation(scenario, out=tmp_path / "run")
        federation.step()
        with monkeypatch.context() as patched:
            patched.setattr(Checkpoint, "save", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                federation.step()
        assert len(RunFolder.open(tmp_path / "run").rounds()) == 3  # round 2 is there already
        resumed = Federation.resume(tmp_path / "run")
        assert resumed.round == 1
        assert len(resumed.folder.rounds()) == 3  # looking at a run changes nothing in it
        resumed.run()
        assert same(whole.state, resumed.state)
        assert [row.round for row in resumed.folder.rounds()] == [0, 1, 2, 3, 4]
        # What was sent in round 2 was sent: it stands beside what was sent when it was run again.
        assert resumed.folder.table("ledger").groupby("round").size().tolist() == [4, 8, 4, 4]

    def test_replies_before_a_kill_stay_accounted(self, tmp_path, monkeypatch):
        scenario = small(rounds=3, defenses=[DP | {"clients": "1"}])
        federation = Federation(scenario, out=tmp_path / "run")
        federation.step()
        sent = []

        def killed(self, round, votes, **_):
            sent.append(votes[1].arrays)  # the replies are here, and nothing is written down
            raise KeyboardInterrupt

        for _ in range(2):
            with monkeypatch.context() as patched:
                patched.setattr(Aggregation, "aggregate", killed)
                with pytest.raises(KeyboardInterrupt):
                    federation.step()
            federation = Federation.resume(tmp_path / "run")
        federation.run()
        (name, one), other = next(iter(sent[0].items())), sent[1]
        assert not torch.equal(one, other[name])  # the same noise again would tell the difference
        history = federation.ledger.histories[1]
        assert [entry.round for entry in history] == [1, 2, 2, 2, 3]
        five = epsilon(
            ((1.0, history[0].sample_rate, 5 * history[0].steps),), accountant="rdp", delta=1e-5
        )
        assert federation.ledger.protected(1) == pytest.approx(five, rel=1e-9)
        assert Federation.resume(tmp_path / "run").ledger.histories[1] == history
        written = federation.folder.table("ledger")["epsilon_protected"].max()
        assert written == pytest.approx(five, rel=1e-9)

    def test_cut_off_journal_line_is_dropped(self, tmp_path):
        federation = Federation(small(rounds=2), out=tmp_path / "run")
        federation.step()
        with (tmp_path / "run" / "spending.jsonl").open("a") as journal:
            journal.write('{"0":[{"round":2,"part')
        Federation.resume(tmp_path / "run").run()
        spent = Federation.resume(tmp_path / "run").ledger.histories
        assert [len(history) for history in spent.values()] == [2] * 4

    @pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("[]\n")])
    def test_missing_or_damaged_journal_is_refused(self, tmp_path, damage):
        Federation(small(rounds=2), out=tmp_path / "run").step()
        damage(tmp_path / "run" / "spending.jsonl")
        with pytest.raises(BadInput, match="no epsilon would be right"):
            Federation.resume(tmp_path / "run")

    def test_folder_without_a_run_is_refused(self, tmp_path):
        with pytest.raises(BadInput, match="holds no run"):
            Federation.resume(tmp_path)

    @pytest.mark.parametrize("killed_in", ["round 1", "round 0", "making the folder"])
    def test_kill_before_the_first_round_starts_anew(self, tmp_path, monkeypatch, killed_in):
        scenario = small(roles=[LEAK], reconstructions=[ATTACK])
        whole = finished(scenario, out=tmp_path / "whole")
        where = {
            "round 1": (Checkpoint, "save"),  # after all rows of the round
            "round 0": (RunFolder, "append_round"),
            "making the folder": (RunFolder, "truncate"),
        }
        with monkeypatch.context() as patched:
            patched.setattr(*where[killed_in], lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                finished(scenario, out=tmp_path / "run")
        resumed = Federation.resume(tmp_path / "run")
        assert resumed.round == 0
        resumed.run()
        assert same(whole.state, resumed.state)
        assert whole.folder.table("clients").equals(resumed.folder.table("clients"))
        assert [row.round for row in resumed.folder.rounds()] == [0, 1, 2, 3, 4]
        names = [{path.name for path in f.folder.path.rglob("*")} for f in (whole, resumed)]
        assert names[0] == names[1]

    def test_toggles_before_the_first_round_are_kept(self, tmp_path):
        killed = Federation(small(), out=tmp_path / "run")
        killed.toggle("dp-sgd", on=True, clients=[1])
        resumed = Federation.resume(shutil.copytree(tmp_path / "run", tmp_path / "copy"))
        resumed.run(), killed.run()
        assert same(killed.state, resumed.state)
        assert resumed.ledger.protected(1)

    def test_lost_checkpoint_is_refused(self, tmp_path):
        run = finished(small(rounds=2), out=tmp_path / "run").folder
        run.checkpoint.unlink()
        with pytest.raises(BadInput, match="has no checkpoint"):
            Federation.resume(tmp_path / "run")
        assert len(run.rounds()) == 3

    def test_finished_run_refuses_another_round(self):
        federation = finished(small(rounds=1))
        with pytest.raises(BadInput, match="all 1 rounds"):
            federation.step()

    @pytest.mark.parametrize("stage", ["clients", "leakage", "ledger"])
    def test_kill_between_tables_leaves_no_row_twice(self, tmp_path, monkeypatch, stage):
        scenario = small(roles=[LEAK], reconstructions=[ATTACK])
        whole = finished(scenario, out=tmp_path / "whole")
        federation = Federation(scenario, out=tmp_path / "run")
        federation.step()
        append = RunFolder.append

        def killed(folder, table, rows):
            append(folder, table, rows)
            if table == stage:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(RunFolder, "append", killed)
            with pytest.raises(KeyboardInterrupt):
                federation.step()
        resumed = Federation.resume(tmp_path / "run")
        resumed.run()
        assert same(whole.state, resumed.state)
        assert whole.folder.table("clients").equals(resumed.folder.table("clients"))
        assert not resumed.folder.table("ledger").duplicated().any()
        one, other = (f.folder.table("leakage").drop(columns="seconds") for f in (whole, resumed))
        assert one.equals(other)

    def test_late_client_gets_its_history_after_a_resume(self, tmp_path):
        scenario = small(rounds=6, seed=6, server={"cohort": 1}, defenses=[DP])
        whole = finished(scenario, out=tmp_path / "whole")
        called = whole.folder.table("clients")["client"].tolist()
        assert called[0] in called[3:]
        assert called[0] not in called[1:3]
        broken = Federation(scenario, out=tmp_path / "broken")
        broken.step(), broken.step()
        resumed = Federation.resume(tmp_path / "broken")
        resumed.run()
        assert same(whole.state, resumed.state)
        assert whole.folder.table("ledger").equals(resumed.folder.table("ledger"))

    @pytest.mark.parametrize(
        "tables",
        [
            {"server": {"strategy": "FedAvgM", "options": {"server_momentum": 0.9}}},
            {
                "model": {"name": "resnet8", "width": 4, "norm": "batch"},
                "training": {"share_buffers": True, "momentum": 0.9, "lr_decay": 0.5},
            },
        ],
        ids=["momentum", "statistics"],
    )
    def test_run_can_be_resumed_after_every_round(self, tmp_path, tables):
        scenario = small(**tables)
        whole = finished(scenario)
        federation = Federation(scenario, out=tmp_path / "run")
        for _ in range(4):
            federation.step()
            federation = Federation.resume(tmp_path / "run")
        assert same(whole.state, federation.state)
        one, other = (
            [(row.round, row.accuracy, row.loss) for row in f.folder.rounds()]
            for f in (whole, federation)
        )
        assert one == other

    def test_server_learning_rate_scales_the_step(self):
        server = {"strategy": "FedAvgM", "options": {"server_learning_rate": 0.5}}
        slow, fast = Federation(small(server=server)), Federation(small())
        start = slow.state
        slow.step(), fast.step()
        for name, value in fast.state.items():
            half = start[name] + 0.5 * (value - start[name])
            assert torch.allclose(slow.state[name], half, atol=1e-6)

    def test_changed_network_is_refused_on_resume(self, tmp_path):
        Federation(small(), out=tmp_path / "run").step()
        path = tmp_path / "run" / "scenario.toml"
        path.write_text(path.read_text().replace("width = 4", "width = 8"))
        with pytest.raises(BadInput):
            Federation.resume(tmp_path / "run").run()


class TestToggle:
    def test_saved_scenario_replays_a_toggled_run(self, tmp_path):
        live = Federation(small(roles=[LEAK], reconstructions=[ATTACK]), out=tmp_path / "live")
        live.step()
        live.toggle("dp-sgd", on=True, clients=[0, 2], noise_multiplier=0.5)
        live.step()
        live.toggle("dp-sgd", on=False, clients=[0])
        live.toggle("dp-instahide", on=True, clients="0,3", k=3)
        live.run()
        replay = finished(RunFolder.open(tmp_path / "live").scenario)
        assert same(live.state, replay.state)
        assert live.folder.table("ledger").equals(replay.folder.table("ledger"))
        events = (tmp_path / "live" / "toggles.jsonl").read_text().splitlines()
        assert [json.loads(e)["defense"] for e in events] == ["dp-sgd", "dp-sgd", "dp-instahide"]
        assert [json.loads(e)["from_round"] for e in events] == [2, 3, 3]
        defenses = live.folder.table("clients").groupby("client")["defenses"].apply(list)
        assert defenses[0] == ["none", "dp-sgd", "dp-instahide", "dp-instahide"]
        assert defenses[1] == ["none"] * 4
        assert defenses[2] == ["none", "dp-sgd", "dp-sgd", "dp-sgd"]

    def test_resumed_run_keeps_its_toggles(self, tmp_path):
        live = Federation(small(), out=tmp_path / "live")
        live.step()
        live.toggle("dp-sgd", on=True)
        live.step()
        resumed = Federation.resume(shutil.copytree(tmp_path / "live", tmp_path / "copy"))
        resumed.run()
        live.run()
        assert same(live.state, resumed.state)
        assert resumed.ledger.protected(0) == live.ledger.protected(0)

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ({"defense": "dp-sdg", "on": True}, "dp-sdg"),
            ({"defense": "dp-sdg", "on": False}, 'did you mean "dp-sgd"'),
            ({"defense": "dp-sgd", "on": True, "rounds": "9"}, "names round 9"),
            ({"defense": "dp-sgd", "on": True, "clients": 2}, "whole numbers"),
            ({"defense": "dp-sgd", "on": True, "clients": [0.5]}, "whole numbers"),
            ({"defense": "dp-sgd", "on": True, "clients": [9]}, "clients go from 0 to 3"),
            ({"defense": "dp-sgd", "on": True, "clients": "7"}, "names client 7"),
            ({"defense": "dp-sgd", "on": True, "noise": 1}, "noise"),
            ({"defense": "dp-instahide", "on": True}, "both dp-sgd and dp-instahide"),
        ],
    )
    def test_impossible_toggle_changes_nothing(self, arguments, sentence):
        federation = Federation(small(defenses=[DP | {"clients": "1"}]))
        before = federation.scenario
        with pytest.raises(BadInput, match=sentence):
            federation.toggle(arguments.pop("defense"), **arguments)
        assert federation.scenario == before
        assert not (federation.folder.path / "toggles.jsonl").exists()

    def test_numpy_numbers_become_plain_ones(self):
        federation = Federation(small())
        noise = np.float32(0.5)
        federation.toggle("dp-sgd", on=True, clients=np.arange(2), noise_multiplier=noise)
        event = json.loads((federation.folder.path / "toggles.jsonl").read_text())
        assert event["clients"] == [0, 1]
        assert event["settings"] == {"noise_multiplier": 0.5}
        assert federation.folder.scenario == federation.scenario

    def test_event_names_settings_of_the_toggled_defense(self):
        """It is not the last of the entries: what has to come later stays behind it."""
        hidden = {"name": "secure-aggregation"}
        federation = Federation(small(defenses=[hidden, {"name": "dp-sgd", "rounds": "1"}]))
        federation.step()
        federation.toggle("clip-noise", on=True, clients=[2], clipping_norm=0.25)
        event = json.loads((federation.folder.path / "toggles.jsonl").read_text())
        assert event["settings"] == {"clipping_norm": 0.25}

    def test_toggle_may_end_before_the_last_round(self):
        federation = Federation(small(defenses=[MIX | {"clients": "3", "rounds": "4"}]))
        federation.step()
        with pytest.raises(BadInput, match='rounds="2-3"'):
            federation.toggle("dp-sgd", on=True, clients=[3])
        federation.toggle("dp-sgd", on=True, clients=[3], rounds="1-3")
        federation.run()
        table = federation.folder.table("clients")
        defenses = table[table["client"] == 3]["defenses"].tolist()
        assert defenses == ["none", "dp-sgd", "dp-sgd", "dp-instahide"]
        event = json.loads((federation.folder.path / "toggles.jsonl").read_text())
        assert (event["from_round"], event["rounds"]) == (2, "2-3")

    @pytest.mark.parametrize("earlier", [0, 1])
    @pytest.mark.parametrize("broken", ["toggles.jsonl", "scenario.toml"])
    def test_unwritable_toggle_changes_nothing(self, monkeypatch, broken, earlier):
        federation = Federation(small())
        for _ in range(earlier):
            federation.toggle("dp-sgd", on=True, clients=[1])
        path = federation.folder.path
        files, before = {p: p.read_bytes() for p in path.glob("*.*")}, federation.scenario
        write = write_atomically

        def full(target, content):
            if target.name == broken:
                raise OSError("no space left on device")
            write(target, content)

        with monkeypatch.context() as patched:
            patched.setattr("fedlab.results.folder.write_atomically", full)
            with pytest.raises(OSError, match="no space"):
                federation.toggle("dp-sgd", on=True, clients=[0])
        assert federation.scenario == before
        assert {p: p.read_bytes() for p in path.glob("*.*")} == files

    def test_dp_sgd_toggle_refuses_batch_norm(self):
        scenario = small("model.name='resnet8'", "model.norm='batch'")
        with pytest.raises(BadInput, match=r'model\.norm = "group"'):
            Federation(scenario).toggle("dp-sgd", on=True)


def with_arrays(change):
    """Changes the first tensor that client 2 sends; ``None`` leaves it out."""

    def tamper(client, reply):
        if client == 2:
            arrays = reply.content["payload"]
            name = next(iter(arrays))
            changed = change(arrays[name].numpy().copy())
            del arrays[name]
            if changed is not None:
                arrays[name] = Array(changed)
        return reply

    return tamper


def raising(client, reply):
    return Error(code=2, reason="RuntimeError: out of memory") if client == 2 else reply


def refusing(scenario, rounds):
    """A grid in which the replies of client 2 arrive broken in some rounds."""
    spoil, calls = with_arrays(lambda array: array * float("nan")), []

    def tamper(client, reply):
        calls.extend([client] * (client == 2))
        return spoil(client, reply) if len(calls) in rounds else reply

    return Tampered(scenario, tamper)


class TestFailures:
    @pytest.mark.parametrize(
        ("tamper", "reason"),
        [
            (with_arrays(lambda array: array * float("nan")), "not finite"),
            (with_arrays(lambda array: array[:1]), "instead of"),
            (with_arrays(lambda _: None), "tensors instead of"),
            (raising, "RuntimeError: out of memory"),
        ],
        ids=["nan", "shape", "tensors", "raises"],
    )
    def test_failing_client_is_named_and_skipped(self, tamper, reason, caplog):
        scenario = small(rounds=2)
        federation = finished(scenario, grid=Tampered(scenario, tamper))
        table = federation.folder.table("clients")
        refused = table[table["status"] == "refused"]
        assert refused["client"].tolist() == [2, 2]
        assert refused["reason"].str.contains(reason, regex=False).all()
        assert "client 2 is skipped" in caplog.text
        assert (table[table["client"] != 2]["status"] == "ok").all()
        assert all(torch.isfinite(value).all() for value in federation.state.values())

    def test_run_stops_if_all_clients_fail(self, tmp_path):
        scenario = small()

        def all_fail(_client, _reply):
            return Error(code=2, reason="RuntimeError: no disk")

        federation = Federation(scenario, out=tmp_path / "run", grid=Tampered(scenario, all_fail))
        with pytest.raises(RunFailed, match=r"round 1: all clients failed .* no disk"):
            federation.run()
        assert federation.round == 0

    def test_too_many_failures_stop_the_run(self):
        scenario = small("server.max_failures=0.2")
        federation = Federation(scenario, grid=Tampered(scenario, raising))
        with pytest.raises(RunFailed, match="1 of 4 clients"):
            federation.step()

    def test_defense_that_fails_at_one_client_skips_it(self):
        scenario = small(
            "data.partition='dirichlet'",
            "data.alpha=0.3",
            rounds=1,
            defenses=[MIX | {"k": 30}],
        )
        federation = finished(scenario)
        table = federation.folder.table("clients")
        sizes = [len(part) for part in federation.federated.partitions]
        small_ones = [client for client, size in enumerate(sizes) if size < 30]
        assert small_ones
        assert table[table["status"] == "refused"]["client"].tolist() == small_ones
        assert table[table["status"] == "refused"]["reason"].str.contains("k = 30").all()

    def test_refused_reply_is_accounted(self):
        """The server saw that reply, whatever it made of it."""
        scenario = small(rounds=2, defenses=[DP])
        good, refused = finished(scenario), finished(scenario, grid=refusing(scenario, rounds=[2]))
        assert refused.folder.table("clients")["status"].tolist().count("refused") == 1
        assert refused.ledger.protected(2) == good.ledger.protected(2)

    def test_noise_does_not_repeat_after_a_refusal(self, tmp_path):
        scenario = small(defenses=[DP])
        whole = finished(scenario, grid=refusing(scenario, rounds=[2]))
        grid = refusing(scenario, rounds=[2])
        broken = Federation(scenario, out=tmp_path / "run", grid=grid)
        broken.step(), broken.step()
        resumed = Federation.resume(tmp_path / "run")
        resumed.run()
        assert resumed.ledger.protected(2) == whole.ledger.protected(2)
        assert same(whole.state, resumed.state)

    def test_shortened_history_lowers_no_epsilon(self):
        scenario = small(rounds=3, defenses=[DP])

        def forgetful(client, reply):
            if client == 2:
                declared = reply.content["declared"]
                last = json.loads(declared["history"])[-1]
                declared["history"] = json.dumps([last] if last["round"] < 3 else [])
            return reply

        federation, spent = Federation(scenario, grid=Tampered(scenario, forgetful)), []
        for _ in range(3):
            federation.step()
            spent.append(federation.ledger.protected(2) or 0.0)
        assert spent[0] > 0
        assert spent == sorted(spent)
        assert federation.ledger.total(2) == math.inf  # what else it sent cost it did not say
        assert federation.ledger.total(1) < math.inf

    def test_failed_round_can_be_tried_again(self):
        scenario, broken = small(rounds=2), [True]

        def fail_once(_client, reply):
            return Error(code=2, reason="RuntimeError: no disk") if broken[0] else reply

        federation = Federation(scenario, grid=Tampered(scenario, fail_once))
        with pytest.raises(RunFailed):
            federation.step()
        broken[0] = False
        federation.run()
        assert same(federation.state, finished(scenario).state)
        assert [row.round for row in federation.folder.rounds()] == [0, 1, 2]


class TestReconstruct:
    def test_attack_on_demand_equals_the_scheduled_one(self):
        scenario = small(roles=[LEAK], reconstructions=[ATTACK], rounds=1)
        federation = finished(scenario)
        scheduled = federation.folder.table("leakage")
        own = PLAIN | {"iterations": 5}
        again = federation.reconstruct(round=1, client=0, **own).table()
        assert again["psnr"].tolist() == pytest.approx(scheduled["psnr"].tolist(), rel=1e-6)

    def test_missing_capture_error_says_how_to_keep_one(self):
        federation = finished(small(roles=[LEAK], rounds=1))
        with pytest.raises(BadInput, match=r"--set captures\.keep=all"):
            federation.reconstruct(round=1, client=0)
        with pytest.raises(BadInput, match="round 2 has not been run"):
            federation.reconstruct(round=2, client=0)

    def test_honest_client_with_few_images_leaks(self):
        scenario = small(
            "data.train=8",
            "training.batch_size=1",
            "model.width=16",
            rounds=1,
            captures={"keep": "all"},
        )
        federation = finished(scenario)
        leak = federation.reconstruct(round=1, client=0, **PLAIN, iterations=200)
        rows = [row for row in leak.rows if row.target == "original"]
        assert len(rows) == 2
        assert all(row.psnr > row.chance_psnr + 3 for row in rows)
        assert rows[0].payload_cosine > 0.9999

    def test_update_of_many_images_is_skipped_and_counted(self, caplog):
        scenario = small("data.clients=2", rounds=1, reconstructions=[{"clients": "0"}])
        federation = finished(scenario)
        assert "client 0 is not attacked" in caplog.text
        table = federation.folder.table("leakage")
        assert table["image"].tolist() == list(range(80))
        assert table["psnr"].isna().all()
        assert set(table["verdict"]) == {"inconclusive"}
        assert table["skipped"].str.contains("80 images").all()
        found = counted_images(scored_images(table))
        assert (found.images, found.leaking, found.skipped) == (80, 0, 80)

    def test_updates_left_out_for_one_reason_share_a_line(self, caplog):
        finished(small("data.clients=2", rounds=1, reconstructions=[{"clients": "all"}]))
        (line,) = [each for each in caplog.messages if "not attacked" in each]
        assert line.startswith(
            "round 1: clients 0-1 are not attacked: the update averages 80 images"
        )

    def test_poisson_batch_of_one_image_may_be_empty(self):
        scenario = small(
            roles=[LEAK | {"sampling": "poisson"}],
            defenses=[DP],
            reconstructions=[ATTACK],
            rounds=4,
        )
        federation = finished(scenario)
        leakage = federation.folder.table("leakage")
        empty = leakage[leakage["target"] == "none"]
        assert set(empty["skipped"]) == {"the client's batch was empty"}
        assert set(empty["image"]) == {-1}
        assert empty_updates(leakage) == (len(empty), 4)
        assert len(empty) > 0
        ledger = federation.folder.table("ledger")
        own = ledger[ledger["client"] == 0]
        assert own["sample_rate"].tolist() == pytest.approx([1 / 40] * 4)
        fixed = finished(scenario.changed(roles=[LEAK])).folder.table("ledger")
        leaking = fixed[fixed["client"] == 0]
        assert leaking["sample_rate"].tolist() == [1.0] * 4
        assert set(leaking["sampling"]) == {"fixed"}
        # One image more may drive another out of the batch, so that the noise counts half.
        half = leaking["noise_multiplier"].iloc[0] / 2
        alone = epsilon(((half, 1.0, 1),), accountant="rdp", delta=1e-5)
        assert leaking["epsilon_round"].tolist() == pytest.approx([alone] * 4)
        assert fixed["epsilon_total"].max() > ledger["epsilon_total"].max()


OWN = """
import torch

class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)
        self.last = torch.nn.Linear(64, 10)

    def forward(self, images):
        return self.last(self.second(self.first(images.flatten(1)).relu()).relu())

class Scaled(Own):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, images):
        return super().forward(images) * self.scale

def scaled(**_):
    return Scaled()

def tied(**_):
    network = Own()
    network.second.weight = network.first.weight
    return network
"""


class TestOwnNetworks:
    @pytest.fixture(autouse=True)
    def _own(self, tmp_path, monkeypatch):
        (tmp_path / "networks_of_federation_tests.py").write_text(OWN)
        monkeypatch.syspath_prepend(tmp_path)

    def own(self, name, **tables):
        factory = f"networks_of_federation_tests:{name}"
        return small(model={"name": "factory", "factory": factory}, **tables)

    @pytest.mark.parametrize("strategy", ["FedAvg", "FedAvgM", "FedAdam"])
    def test_scalar_parameter_survives_a_resume(self, tmp_path, strategy):
        options = {"server_momentum": 0.9} if strategy == "FedAvgM" else {}
        scenario = self.own("scaled", server={"strategy": strategy, "options": options})
        whole = finished(scenario)
        broken = Federation(scenario, out=tmp_path / "run")
        broken.step(), broken.step()
        resumed = Federation.resume(tmp_path / "run")
        resumed.run()
        assert same(whole.state, resumed.state)

    def test_shared_weights_are_learned_in_both_layers(self):
        federation = finished(self.own("tied", rounds=2))
        before = Federation(self.own("tied")).state["first.weight"]
        learned = federation.state["first.weight"]
        assert not torch.equal(learned, before)
        assert "second.weight" not in federation.state  # the same tensor travels once
        federation.federated.load(federation.state)
        assert torch.equal(federation.federated.model.second.weight, learned)


def test_temporary_folder_is_deleted():
    federation = Federation(small(rounds=1))
    path = federation.folder.path
    federation.run()
    assert path.is_dir()
    folder = federation.folder
    del federation
    assert path.is_dir()  # somebody still holds it
    del folder
    assert not path.exists()


def test_toggle_takes_a_defense_with_its_settings():
    federation = Federation(small())
    changed = federation.toggle(Pruning(share=0.5), on=True, clients=[1], rounds="2")
    (entry,) = changed.defenses
    assert (entry.name, entry.share, entry.rounds, entry.clients) == ("pruning", 0.5, "2", "1")
