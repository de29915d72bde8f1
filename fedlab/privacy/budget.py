"""Whether a round would cost a client more epsilon than its budget."""

from fedlab.privacy.accountant_name import AccountantName
from fedlab.privacy.accounts import Account
from fedlab.privacy.release import History


def over_budget(
    budget: float,
    account: Account,
    *,
    history: History,
    planned: History,
    accountant: AccountantName,
    delta: float,
) -> str | None:
    """Reason why a round would exceed a budget, or ``None`` if it would not.

    Only public facts go in (sizes, rates, noise), so the refusal itself reveals nothing.

    Args:
        budget: Largest epsilon of all rounds of the account together.
        account: The account whose rounds count.
        history: Entries of the earlier rounds.
        planned: Entries of the round that is about to run.
        accountant: Accountant of Gaussian noise.
        delta: Delta at which Gaussian noise is counted.
    """
    after = account.epsilon((*history, *planned), accountant=accountant, delta=delta)
    if after is None or after <= budget:
        return None
    before = account.epsilon(history, accountant=accountant, delta=delta) or 0.0
    return (
        f"its {account.mechanism} rounds cost epsilon {before:.3f} so far and would cost "
        f"{after:.3f} after this one, more than its budget of {budget:g}"
    )
