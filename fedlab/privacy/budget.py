"""Whether what a client is about to do would cost more than it may."""

from fedlab.privacy.accountant_name import AccountantName
from fedlab.privacy.accounts import ACCOUNTS
from fedlab.privacy.release import History, Mechanism


def passes(
    budget: float,
    *,
    mechanism: Mechanism,
    history: History,
    planned: History,
    accountant: AccountantName,
    delta: float,
) -> str | None:
    """Why a participation would pass a budget, or ``None`` if it would not.

    Only public facts go in (sizes, rates, noise), so the refusal itself tells nothing.

    Args:
        budget: Largest epsilon of all rounds under the mechanism together.
        mechanism: Whose rounds count.
        history: What was spent.
        planned: What would be spent now.
        accountant: How it is counted.
        delta: At which.
    """
    account = ACCOUNTS[mechanism]
    after = account.epsilon((*history, *planned), accountant=accountant, delta=delta)
    if after is None or after <= budget:
        return None
    before = account.epsilon(history, accountant=accountant, delta=delta) or 0.0
    return (
        f"its {mechanism} rounds cost epsilon {before:.3f} so far and would cost {after:.3f} after "
        f"this one, more than its budget of {budget:g}"
    )
