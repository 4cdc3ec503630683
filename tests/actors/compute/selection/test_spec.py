import pytest

from tidemill.actors.compute.selection.operators import OPERATORS, Operator
from tidemill.actors.compute.selection.spec import SelectionSpec, check_selection


def test_names_tell_what_was_asked_for() -> None:
    assert SelectionSpec(policy="topk", sparsity=0.5).name == "topk 50%"
    assert (
        SelectionSpec(policy="topk", sparsity=0.3, allocation="uniform", operators=("q",)).name == "topk uniform 30% q"
    )


@pytest.mark.parametrize("sparsity", [-0.1, 0.91, float("nan")])
def test_a_sparsity_out_of_range_is_refused(sparsity: float) -> None:
    with pytest.raises(ValueError, match=r"sparsity is .*, accepted: 0 to 0\.9"):
        check_selection(SelectionSpec(policy="gate", sparsity=sparsity))


@pytest.mark.parametrize("operators", [(), ("q", "q")])
def test_operators_are_named_once(operators: tuple[Operator, ...]) -> None:
    with pytest.raises(ValueError, match="operators are"):
        check_selection(SelectionSpec(policy="topk", sparsity=0.5, operators=operators))


def test_neurons_cannot_be_chosen_for_one_of_their_operators() -> None:
    with pytest.raises(ValueError, match="up, down go together"):
        check_selection(SelectionSpec(policy="gate", sparsity=0.5, operators=("down",)))


def test_a_good_selection_is_given_back() -> None:
    spec = SelectionSpec(policy="neuron", sparsity=0.9, operators=OPERATORS)
    assert check_selection(spec) is spec
