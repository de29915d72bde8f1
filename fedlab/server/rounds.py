"""One federated round after another, over any Flower Grid.

Flower's own ``Strategy.start`` always begins at round 1 and cannot step, toggle or resume.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from attacks.malicious.fishing import fish_class, last_layer
from attacks.malicious.imprint import BLOCK
from fedlab.client.plan import Plan
from fedlab.client.reply import FACTS
from fedlab.client.roles import Leaking
from fedlab.errors import BadInput, RunFailed
from fedlab.planning import plan_for, sample_cohort
from fedlab.privacy.spending import History, Spending, before_last, next_participation
from fedlab.scenario import Scenario
from fedlab.scenario_tables import ClassFishing, Imprint
from fedlab.server.aggregation import Aggregation, Vote
from fedlab.server.announcing import announce, announce_sum
from fedlab.server.captures import Capture
from fedlab.server.checks import (
    Expected,
    Refused,
    Reply,
    Unsent,
    decline_of,
    history_of,
    read_reply,
    sent_something,
)
from fedlab.server.secure_sum import LEAST, Part, members, summed

log = logging.getLogger(__name__)

PATIENCE = 600.0
"""Seconds to wait for nodes to appear, and for their introductions."""

State = Mapping[str, Tensor]
"""Parameters and buffers by name."""


@dataclass(frozen=True)
class Round:
    """What happened in a round on the server's side.

    Attributes:
        number: Counted from 1.
        plans: What each sampled client was asked to do.
        captures: What the server saw, in order of the clients: of each whose reply passed the
            checks, or of all in secure aggregation together. The global arrays in it are those
            that these clients were sent.
        accepted: Clients whose replies passed the checks.
        declined: Clients that declined to send anything, and why.
        refused: Why the others' replies were not used.
        histories: Accountant histories of the clients that replied; those that were refused
            too, since the server saw what they sent. Where a history cannot be believed, what was
            sent counts as open.
        state: The new global parameters and buffers.
    """

    number: int
    plans: Mapping[int, Plan]
    captures: tuple[Capture, ...]
    accepted: frozenset[int]
    declined: Mapping[int, Unsent]
    refused: Mapping[int, str]
    histories: Mapping[int, History]
    state: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Seen:
    """A Capture, and its part in the aggregate."""

    capture: Capture
    part: Part


class RoundLoop:
    """The server's side of a federation.

    A malicious server sends fished parameters to the clients that it fishes, and leaves their
    replies out of the aggregate: they are steps from weights that no training gives. If all of a
    round were fished, the global state stays as it is. An imprint block is put back to how it was
    made after every round, since a single step of training would blur it.

    Args:
        grid: Carries the messages.
        state: The initial global parameters and buffers, on the CPU.
        parameters: Names in ``state`` that are parameters; the others are buffers.
        scenario: For the strategy and the number of clients.

    Raises:
        BadInput: If the strategy cannot be made, or the network has no last layer to fish with.
    """

    def __init__(
        self,
        grid: Grid,
        state: Mapping[str, Tensor],
        parameters: Sequence[str],
        scenario: Scenario,
    ) -> None:
        self._grid = grid
        self._parameters = tuple(parameters)
        self._nodes: dict[int, int] = {}
        self.histories: dict[int, History] = {}
        self.state = dict(state)
        self.aggregation = Aggregation(
            scenario.server.strategy,
            scenario.server.options,
            central=scenario.server.central_dp,
            seed=scenario.seed,
        )
        malicious = scenario.server.malicious
        self._trap = {
            name: value
            for name, value in state.items()
            if isinstance(malicious, Imprint) and name.startswith(f"{BLOCK}.")
        }
        if isinstance(malicious, ClassFishing):
            try:
                self._fished(malicious)
            except ValueError as error:
                raise BadInput(f"server.malicious: {error}") from error

    def step(
        self,
        scenario: Scenario,
        round: int,
        resumed: Mapping[int, History] | None = None,
        *,
        on_spent: Callable[[Mapping[int, History]], None] = lambda _: None,
    ) -> Round:
        """Run one round.

        Args:
            scenario: May differ from the one before in roles, defenses and reconstructions.
            round: Counted from 1.
            resumed: Histories to hand to the clients, in the first round after a resume.
            on_spent: Told what clients spent as soon as their replies are here, before anything is
                done with them.

        Raises:
            RunFailed: If all clients fail, or more than the scenario lets.
        """
        nodes = self._introductions(scenario.data.clients)
        cohort = sample_cohort(scenario, round)
        averaged = self._averaged(scenario)
        config = self.aggregation.configure(
            round, averaged, self._grid, [nodes[client] for client in cohort]
        )
        # FedProx tells its clients by this key; every other strategy leaves it out.
        proximal_mu = cast(float, config.get("proximal-mu", 0.0))
        plans = {
            client: plan_for(
                scenario,
                round=round,
                client=client,
                proximal_mu=proximal_mu,
                history=None if resumed is None else resumed.get(client, ()),
            )
            for client in cohort
        }
        sent = self._sent(plans, scenario)
        messages = self._exchange(plans, nodes, sent)
        replies, declined, refused, histories = self._read(messages, plans, scenario)
        known = self.histories
        on_spent({each: h[len(known.get(each, ())) :] for each, h in histories.items()})
        self.histories = known | histories
        together = members(scenario, round=round, clients=replies)
        if len(together) < LEAST:
            self._leave_out(together, replies, refused, round)
            together = ()
        self._refuse_to_go_on_without(replies, declined, refused, scenario, round)
        seen = self._seen(replies, plans, sent, averaged, scenario, together)
        votes = [
            Vote(messages[each.capture.clients[0]], each.part.payload.num_examples, each.part.model)
            for each in seen
            if each.capture.global_state is self.state
        ]
        merged = self.aggregation.aggregate(round, votes) if votes else {}
        self.state = {**self.state, **merged, **self._trap}
        return Round(
            number=round,
            plans=plans,
            captures=tuple(each.capture for each in seen),
            accepted=frozenset(client for each in seen for client in each.capture.clients),
            declined=declined,
            refused=refused,
            histories=histories,
            state=self.state,
        )

    def _seen(
        self,
        replies: Mapping[int, Reply],
        plans: Mapping[int, Plan],
        sent: Mapping[int, State],
        averaged: Iterable[str],
        scenario: Scenario,
        together: Sequence[int],
    ) -> list["_Seen"]:
        """What the server looks at: single replies, or the sum of those in secure aggregation."""
        parts = {
            client: Part(reply.payload, self._model(reply, plans[client].lr, averaged))
            for client, reply in replies.items()
        }
        before = {client: before_last(reply.history) for client, reply in replies.items()}
        round = next(iter(plans.values())).round
        seen = []
        if together:
            told = announce_sum([plans[client] for client in together], scenario, before)
            whole = summed([parts[client] for client in together], averaged)
            capture = Capture(round, tuple(together), self.state, whole.payload, told)
            seen.append(_Seen(capture, whole))
        for client in sorted(set(parts) - set(together)):
            told = announce(plans[client], scenario, before[client])
            capture = Capture(round, (client,), sent[client], parts[client].payload, told)
            seen.append(_Seen(capture, parts[client]))
        return sorted(seen, key=lambda each: each.capture.clients)

    def _leave_out(
        self,
        alone: Sequence[int],
        replies: dict[int, Reply],
        refused: dict[int, str],
        round: int,
    ) -> None:
        """Look at no reply that should have been hidden in a sum, but is the only one left of it.

        It counts as a failure, and what its client spent stays spent.
        """
        for client in alone:
            del replies[client]
            refused[client] = "nobody else is left in secure aggregation to hide its reply"
            log.warning("round %d: client %d is skipped: %s", round, client, refused[client])

    def _introductions(self, clients: int) -> dict[int, int]:
        """Node of every partition; asked once, since node ids are random."""
        deadline = time.monotonic() + PATIENCE
        while len(nodes := list(self._grid.get_node_ids())) < clients:
            if time.monotonic() > deadline:
                raise RunFailed(f"only {len(nodes)} of {clients} clients appeared")
            time.sleep(0.1)  # Flower starts the server before the nodes are registered
        known = set(self._nodes.values())
        if unknown := [node for node in nodes if node not in known]:
            questions = [Message(RecordDict(), node, MessageType.QUERY) for node in unknown]
            for answer in self._grid.send_and_receive(questions, timeout=PATIENCE):
                if answer.has_error():
                    raise RunFailed(f"a client could not introduce itself: {answer.error.reason}")
                partition = cast(int, answer.content.metric_records[FACTS]["partition-id"])
                self._nodes[partition] = answer.metadata.src_node_id
        if missing := sorted(set(range(clients)) - set(self._nodes)):
            raise RunFailed(f"no node holds partition {missing[0]}")
        return self._nodes

    def _averaged(self, scenario: Scenario) -> dict[str, Tensor]:
        """The part of the global state that clients send back and the strategy combines."""
        return {
            name: value
            for name, value in self.state.items()
            if name in self._parameters
            or (scenario.training.share_buffers and value.is_floating_point())
        }

    def _model(self, reply: Reply, lr: float, averaged: Iterable[str]) -> dict[str, Tensor]:
        """A client's part in the average, in the order that Flower's rules go by."""
        model = reply.payload.as_weights(self.state, lr=lr) | dict(reply.buffers)
        return {name: model[name] for name in averaged}

    def _sent(self, plans: Mapping[int, Plan], scenario: Scenario) -> dict[int, State]:
        """What each client is sent: the global state itself, or a fished one."""
        malice = {
            client: scenario.malice(round=plan.round, client=client)
            for client, plan in plans.items()
        }
        fishing = next((each for each in malice.values() if isinstance(each, ClassFishing)), None)
        fished = self._fished(fishing) if fishing else self.state
        return {
            client: fished if isinstance(each, ClassFishing) else self.state
            for client, each in malice.items()
        }

    def _fished(self, fishing: ClassFishing) -> dict[str, Tensor]:
        """The global state with a last layer that one class alone gets through."""
        parameters = {name: self.state[name] for name in self._parameters}
        weight, bias = last_layer(parameters)
        fished = fish_class(parameters, weight=weight, bias=bias, target=fishing.target)
        return {**self.state, **fished}

    def _exchange(
        self, plans: Mapping[int, Plan], nodes: Mapping[int, int], sent: Mapping[int, State]
    ) -> dict[int, Message]:
        # Converted once for all clients that are sent the same.
        arrays = {
            id(state): ArrayRecord({name: Array(value.numpy()) for name, value in state.items()})
            for state in {id(state): state for state in sent.values()}.values()
        }
        messages = [
            Message(
                RecordDict(
                    {
                        "arrays": arrays[id(sent[client])],
                        "config": ConfigRecord({"plan": plan.model_dump_json(exclude_none=True)}),
                    }
                ),
                nodes[client],
                MessageType.TRAIN,
            )
            for client, plan in plans.items()
        ]
        partition = {node: client for client, node in nodes.items()}
        replies = {
            partition[reply.metadata.src_node_id]: reply
            for reply in self._grid.send_and_receive(messages)
        }
        # Replies arrive in any order, and sums of floats depend on it.
        return dict(sorted(replies.items()))

    def _read(
        self, messages: Mapping[int, Message], plans: Mapping[int, Plan], scenario: Scenario
    ) -> tuple[dict[int, Reply], dict[int, Unsent], dict[int, str], dict[int, History]]:
        averaged = self._averaged(scenario)
        shared = {n: v for n, v in self.state.items() if n not in self._parameters}
        expected = Expected(
            parameters={name: averaged[name] for name in self._parameters},
            buffers=shared if scenario.training.share_buffers else {},
            max_examples=scenario.server.max_examples,
        )
        replies: dict[int, Reply] = {}
        declined: dict[int, Unsent] = {}
        refused: dict[int, str] = {}
        histories: dict[int, History] = {}
        for client, plan in plans.items():
            kind = "gradient" if isinstance(plan.role, Leaking) else "weights"
            try:
                if client not in messages:
                    raise Refused("it did not reply")
                unsent = decline_of(messages[client])
                histories[client] = self._continued(
                    client, history_of(messages[client]), spent=not (unsent and unsent.free)
                )
                if unsent:
                    declined[client] = unsent
                    log.info("round %d: client %d declined: %s", plan.round, client, unsent.reason)
                    continue
                replies[client] = read_reply(
                    messages[client], client=client, kind=kind, expected=expected
                )
            except Refused as reason:
                refused[client] = str(reason)
                log.warning("round %d: client %d is skipped: %s", plan.round, client, reason)
                seen = client in messages and sent_something(messages[client])
                if seen and client not in histories:
                    histories[client] = self._uncounted(client, plan.round)
        return replies, declined, refused, histories

    def _continued(self, client: int, history: History, *, spent: bool) -> History:
        """A declared history, if it goes on from what the client declared before."""
        known = self.histories.get(client, ())
        if history[: len(known)] != known or (len(history) > len(known)) is not spent:
            raise Refused("its accountant history does not go on from the one that it sent before")
        return history

    def _uncounted(self, client: int, round: int) -> History:
        """The history of a client that sent something, and did not say what that cost."""
        known = self.histories.get(client, ())
        return (*known, Spending(round, next_participation(known), "none"))

    def _refuse_to_go_on_without(
        self,
        replies: Mapping[int, Reply],
        declined: Mapping[int, Unsent],
        refused: Mapping[int, str],
        scenario: Scenario,
        round: int,
    ) -> None:
        sound = len(replies) + len(declined)
        if not refused or (
            sound and len(refused) <= scenario.server.max_failures * (sound + len(refused))
        ):
            return
        client, reason = next(iter(refused.items()))
        many = "all" if not sound else f"{len(refused)} of {len(refused) + sound}"
        raise RunFailed(
            f"round {round}: {many} clients failed or were refused, client {client} because "
            f"{reason}"
        )
