"""Tables and figure of the ledger agree with its accounts."""

import io
import math
import re
from dataclasses import replace

import pytest
from rich.console import Console

from fedlab.privacy.accounts import CLIENT
from fedlab.privacy.ledger import Ledger, LedgerRow
from fedlab.privacy.release import PrivacyRelease
from fedlab.report.tables.ceilings import ceiling_sentences
from fedlab.report.tables.ledger import _STATEMENTS, clients_table, ledger_table
from fedlab.report.tables.numbers import number
from fedlab.report.tables.schedule import schedule_grid
from fedlab.scenario.scenario import Scenario
from tests.report.legible import assert_legible, texts_of


def entry(round, mechanism, **facts):
    return PrivacyRelease(round=round, participation=round - 1, mechanism=mechanism, **facts)


def private(round):
    facts = {"noise_multiplier": 1.0, "sample_rate": 0.05, "steps": 20, "clipping_norm": 1.0}
    return entry(round, "dp-sgd", **facts)


def noisy(round):
    facts = {"noise_multiplier": 4.0, "sample_rate": 1.0, "steps": 1, "clipping_norm": 0.5}
    return entry(round, "clip-noise", **facts)


LEDGER = Ledger(
    {
        0: (private(1), private(2)),
        1: (private(1), private(2)),
        2: (private(1), entry(2, "none")),
        3: (noisy(1), noisy(2)),
        4: (entry(1, "dp-instahide", steps=100, epsilon=49_000.0),),
    }
)
SCENARIO = Scenario(rounds=2, data={"clients": 5})


def text(table):
    out = io.StringIO()
    Console(file=out, width=160).print(table)
    return out.getvalue()


def line(table, *words):
    (found,) = [each for each in text(table).splitlines() if all(word in each for word in words)]
    return found.split()


def cells(table, *words):
    (found,) = [row for row in table.rows if all(word in row for word in words)]
    return list(found)


def test_rounds_show_parameters_and_three_epsilons():
    table = ledger_table(LEDGER)
    assert line(table, "1 ", "0-2", "dp-sgd")[-4:] == ["2.48", "2.48", "2.48", "formal"]
    assert "C 1, z 1, q 0.05, steps 20" in text(table)
    assert line(table, "2 ", "open")[-4:] == ["∞", "2.48", "∞", "open"]
    assert line(table, "4 ", "dp-instahide")[-4:] == ["49,000", "-", "∞", "vacuous"]
    assert "one client" in text(table)


def test_letters_and_statements_are_explained():
    note = ledger_table(LEDGER).note
    assert "C: clipping norm; z: noise multiplier" in note
    assert "q: sample rate" in note
    assert "formal: the ε is proved; vacuous: the ε is too large to exclude anything" in note
    assert "claimed:" not in note
    bare = ledger_table(Ledger({0: (entry(1, "none"),)})).note
    assert "C:" not in bare
    assert bare.endswith("open: nothing protects the client")


def test_every_statement_of_the_ledger_is_explained():
    words = re.findall(r"``(\w+)`` \(", LedgerRow.__doc__.partition("statement:")[2])
    assert set(words) == set(_STATEMENTS)


def test_clients_have_a_line_per_account():
    table = clients_table(LEDGER, SCENARIO)
    *example, _, _ = cells(table, "0-1", "one example")
    assert example[-1] == example[-2] == number(LEDGER.protected(0))
    assert cells(table, "dp-sgd 1; open 2", "one example")[-3:] == ["∞", "100 %", "100 %"]
    assert cells(table, "clip-noise 1-2", "one client")[-3] == number(LEDGER.total(3, CLIENT))


def test_clients_have_ceilings():
    table = clients_table(LEDGER)
    expected = [f"{100 * LEDGER.ceiling(0, pool):.3g} %" for pool in (10, 100)]
    assert cells(table, "0-1", "one example")[-2:] == expected
    assert "100 % certifies nothing" in table.note
    assert clients_table(replace(LEDGER, accountant="gdp")).rows[0][-1] == "-"
    assert (
        "gdp accountant is no upper bound" in clients_table(replace(LEDGER, accountant="gdp")).note
    )


def test_sentences_group_clients_with_equal_ceilings():
    first, other, rest = ceiling_sentences(LEDGER)
    assert first.startswith("No attack can find an image of clients 0-1 among 10 equally likely")
    assert f"among 100 than in {100 * LEDGER.ceiling(0, 100):.3g} %" in first
    assert "client 3" in other
    assert rest == "For clients 2,4 nothing is certified."
    assert ceiling_sentences(replace(LEDGER, accountant="gdp")) == []
    assert ceiling_sentences(Ledger({0: (entry(1, "none"),)})) == []


def test_repeated_round_is_named():
    again = replace(private(2), participation=2)
    ledger = Ledger({0: (private(1), private(2), again), 1: (private(1), private(2))})
    assert ledger.repeated == (2,)
    bare = Ledger({0: (entry(1, "none"), replace(entry(1, "none"), participation=1))})
    assert "run again after an interruption: round 1" in " ".join(text(ledger_table(bare)).split())
    said = " ".join(text(ledger_table(ledger)).split())
    assert "run again after an interruption: round 2; what clients had sent before it" in said
    assert LEDGER.repeated == ()
    assert "run again" not in text(ledger_table(LEDGER))


def test_unprotected_ledger_names_no_unit():
    bare = Ledger({0: (entry(1, "none"), entry(2, "none"))})
    table = clients_table(bare, SCENARIO)
    assert cells(table, "open 1-2")[-5:-2] == ["-", "-", "∞"]
    for said in (text(table), text(ledger_table(bare)), bare._repr_html_()):
        assert "one example" not in said
        assert "there is no total ε, as nobody ran" in " ".join(said.split())
    (axes,) = bare.plot().axes
    assert axes.get_title(loc="left").startswith("there is no total ε")
    assert_legible(bare.plot())
    assert "dp-sgd" not in bare.plot().alt


def test_unprotected_client_has_no_unit():
    mixed = Ledger({0: (private(1),), 1: (entry(1, "none"),)})
    assert cells(clients_table(mixed, SCENARIO), "open 1")[-5:-2] == ["-", "-", "∞"]
    bare = Ledger({0: (entry(1, "dp-instahide", steps=9, epsilon=9.0),)})
    said = " ".join(text(ledger_table(bare)).split())
    assert "dp-instahide protects one example (replace-one, labels public) a round" in said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "-"),
        (math.inf, "∞"),
        (0.0, "0.00"),
        (0.001, "< 0.01"),
        (2.481, "2.48"),
        (1e4, "10,000"),
    ],
)
def test_epsilon_is_never_rounded_to_zero(value, said):
    assert number(value) == said


def test_figure_has_a_plot_per_account():
    figure = LEDGER.plot()
    example, client = figure.axes
    assert "one example" in example.get_title(loc="left")
    assert "one client" in client.get_title(loc="left")
    labels = [text.get_text() for text in example.get_legend().get_texts()]
    assert labels[0].startswith("clients 0-1: ε ")
    assert any("∞ in all" in label for label in labels)
    assert "client 3: no protected round, ∞ in all" in labels
    shared = next(each for each in example.lines if each.get_label() == labels[0])
    assert shared.get_ydata()[-1] == pytest.approx(LEDGER.protected(0))


def test_figure_is_legible_and_described():
    figure = LEDGER.plot()
    assert_legible(figure)
    assert f"clients 0-1: ε {number(LEDGER.protected(0))} in protected rounds" in figure.alt
    assert "client 3: no protected round, ∞ in all" in figure.alt
    many = {c: (private(1), *(private(r) for r in range(2, 2 + c))) for c in range(9)}
    assert_legible(Ledger(many).plot())


def test_every_group_has_its_colour_and_mark():
    many = {c: (private(1), *(private(r) for r in range(2, 2 + c))) for c in range(12)}
    (axes,) = Ledger(many).plot().axes
    lines = [line for line in axes.lines if len(line.get_xdata()) > 1]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 12


def test_no_line_runs_through_the_names():
    early = Ledger({c: (private(1), *[private(2)] * c, entry(60, "none")) for c in range(5)})
    figure = early.plot()
    names = [box for text, box in texts_of(figure) if "client" in text.get_text()]
    (axes,) = figure.axes
    highest = max(max(line.get_ydata()) for line in axes.lines)
    assert len(names) == 6  # and the title
    assert axes.transData.transform((0, highest))[1] < min(box.y0 for box in names)
    assert "infinite in all from here on" in figure.alt


def test_empty_ledger_is_not_drawn():
    with pytest.raises(ValueError, match="taken part"):
        Ledger({}).plot()


def test_central_privacy_names_its_limit():
    central = SCENARIO.changed(server={"central_dp": {}})
    for table in (clients_table(LEDGER, central), schedule_grid(central)):
        assert "no protection from this server" in " ".join(text(table).split())
    for table in (clients_table(LEDGER, SCENARIO), schedule_grid(SCENARIO)):
        assert "protection from" not in text(table)
    assert Ledger({0: (entry(1, "none"),)}).rows()[0].statement == "open"


def test_a_void_bound_is_named_with_client_and_round():
    void = "a poison makes images depend on others"
    history = tuple(replace(private(round), void=void) for round in (1, 2))
    note = ledger_table(Ledger({3: history})).note
    assert f"no bound for client 3 in round 1-2: {void}" in note
