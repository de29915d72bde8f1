"""A comparison with a line for each defense: what it hides and stops, and what it costs."""

import math
from dataclasses import dataclass

import pandas as pd

from fedlab.report.numbers import number


@dataclass(frozen=True)
class Spread:
    """A number over the seeds of a comparison.

    Attributes:
        median: NaN where there is none.
        low: The smallest.
        high: The largest.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: "pd.Series[float]") -> "Spread":
        """Of the values that are numbers."""
        there = pd.to_numeric(values, errors="coerce").dropna()
        if there.empty:
            return cls(math.nan, math.nan, math.nan)
        return cls(float(there.median()), float(there.min()), float(there.max()))

    def text(self, digits: int) -> str:
        """The median, and the range where it is one."""
        if math.isnan(self.median):
            return "-"
        told = f"{self.median:.{digits}f}"
        low, high = f"{self.low:.{digits}f}", f"{self.high:.{digits}f}"
        return told if low == high else f"{told}\n({low} to {high})"


@dataclass(frozen=True)
class DefenseLine:
    """What a comparison found of one defense under one aggregation rule.

    Attributes:
        defense: Its label.
        rule: Of the server.
        seeds: Runs that finished.
        accuracy: After the last round.
        attack_success: After the last round; NaN where nobody poisons.
        leaking: Images that leak under any attack.
        images: That were attacked.
        above_chance: PSNR above chance in dB, of the attacked clients of each round.
        psnr: Of the same, in dB.
        chance: Of the same, in dB.
        epsilon: Of protected rounds, the largest of the clients; NaN where there is none.
        total: Of all rounds, likewise.
        seconds: Of all rounds, attacks included.
    """

    defense: str
    rule: str
    seeds: int
    accuracy: Spread
    attack_success: Spread
    leaking: int
    images: int
    above_chance: Spread
    psnr: Spread
    chance: Spread
    epsilon: float
    total: float
    seconds: Spread


def defense_lines(frame: pd.DataFrame) -> list[DefenseLine]:
    """A line for each rule and defense, in the order of the frame.

    Args:
        frame: ``Comparison.frame``.
    """
    return [
        _line(str(rule), str(defense), rows)
        for (rule, defense), rows in frame.groupby(["rule", "defense"], sort=False)
    ]


HEADER = (
    "defense",
    "rule",
    "seeds",
    "accuracy",
    "attack\nsuccess",
    "leaking\nimages",
    "PSNR\ndB",
    "chance\ndB",
    "above\nchance",
    "ε prot.\nrounds",
    "ε\ntotal",
    "time\ns",
)

NOTE = (
    "Medians and, in brackets, the smallest and largest over the seeds; accuracy and attack "
    "success after the last round; PSNR beside chance over all attacked rounds; the largest ε of "
    "any client; time of all rounds, attacks included. An image leaks if it is at least 3 dB above "
    "chance and identified."
)


def defense_cells(line: DefenseLine) -> tuple[str, ...]:
    """A line as texts, in the order of ``HEADER``."""
    return (
        line.defense,
        line.rule,
        str(line.seeds),
        line.accuracy.text(3),
        line.attack_success.text(2),
        f"{line.leaking} of {line.images}" if line.images else "-",
        line.psnr.text(1),
        line.chance.text(1),
        line.above_chance.text(1),
        number(None if math.isnan(line.epsilon) else line.epsilon),
        number(None if math.isnan(line.total) else line.total),
        line.seconds.text(0 if line.seconds.median >= 10 else 1),
    )


def _line(rule: str, defense: str, rows: pd.DataFrame) -> DefenseLine:
    # Numbers of a round stand at each of its clients and attacks.
    rounds = rows.drop_duplicates(["seed", "round"])
    ends = rounds.sort_values("round").groupby("seed").tail(1)
    attacked = rows[rows["images"] > 0]
    # Of several attacks on the same images, the one that leaks most of them.
    each = attacked.groupby(["seed", "round", "client"])[["images", "leaking"]].max()
    return DefenseLine(
        defense=defense,
        rule=rule,
        seeds=int(rows["seed"].nunique()),
        accuracy=Spread.of(ends["accuracy"]),
        attack_success=Spread.of(ends["attack_success_rate"]),
        leaking=int(each["leaking"].sum()),
        images=int(each["images"].sum()),
        above_chance=_over_seeds(attacked, "above_chance"),
        psnr=_over_seeds(attacked, "psnr"),
        chance=_over_seeds(attacked, "chance_psnr"),
        epsilon=_largest(rows["epsilon_protected"]),
        total=_largest(rows["epsilon_total"]),
        seconds=Spread.of(rounds.groupby("seed")["seconds"].sum()),
    )


def _over_seeds(rows: pd.DataFrame, column: str) -> Spread:
    return Spread.of(rows.groupby("seed")[column].median())


def _largest(values: "pd.Series[float]") -> float:
    there = pd.to_numeric(values, errors="coerce").dropna()
    return math.nan if there.empty else float(there.max())
