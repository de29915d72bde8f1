"""Check of a client's privacy budget before a round."""

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
    """Return why a round would exceed a budget; ``None`` if it would not.

    The check uses public facts only (sizes, rates, noise), so a refusal reveals nothing.

    Args:
        budget: Largest epsilon, above 0, of all rounds of the account together.
        account: Account whose releases are counted.
        history: Privacy history of the client before the round.
        planned: Privacy cost of the round as known before it.
        accountant: Accountant of Gaussian noise.
        delta: Delta, in (0, 1), at which Gaussian noise is counted.
    """
    after = account.epsilon((*history, *planned), accountant=accountant, delta=delta)
    if after is None or after <= budget:
        return None
    before = account.epsilon(history, accountant=accountant, delta=delta) or 0.0
    return (
        f"its {account.mechanism} rounds cost epsilon {before:.3f} so far and would cost "
        f"{after:.3f} after this one, more than its budget of {budget:g}"
    )
