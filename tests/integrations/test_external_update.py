"""Names and differences of tensors are converted to those of the network."""

import pytest
import torch

from fedlab import BadInput
from fedlab.integrations.external_update import add_difference, match_names
from tests.integrations.plain_app import Net


@pytest.mark.parametrize("words", ["module.", "_orig_mod.", "_module.", "module._orig_mod."])
def test_the_names_of_a_wrapped_network(words):
    model = Net(norm=True)
    for own in (model, torch.nn.DataParallel(model)):  # whose own names begin with one
        state = own.state_dict()
        for sent in (state, {words + name: tensor for name, tensor in state.items()}):
            found = match_names(own, sent)
            assert list(found) == list(state)
            assert all(torch.equal(found[name], state[name]) for name in state)


def test_opacus_wraps_a_network_in_just_this_way():
    from opacus import GradSampleModule

    model = Net()
    assert list(match_names(model, GradSampleModule(Net()).state_dict())) == list(
        model.state_dict()
    )


def test_a_change_is_added_to_what_was_sent():
    sent = {"a": torch.ones(2), "b": torch.zeros(3)}
    assert add_difference(sent, {"a": torch.tensor([1.0, -1.0])})["a"].tolist() == [2, 0]


@pytest.mark.parametrize("change", [{"c": torch.ones(2)}, {"a": torch.ones(3)}])
def test_a_change_of_something_else_is_refused(change):
    with pytest.raises(BadInput, match="to add a change to"):
        add_difference({"a": torch.ones(2)}, change)
