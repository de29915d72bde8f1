"""Reasons why the epsilon of a client's defenses does not hold in a round."""

from dataclasses import replace

from fedlab.privacy.accounts import account_of
from fedlab.privacy.release import PrivacyRelease
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Poisoning

EXPOSED = "colluding clients know the update without its defenses and send one made from it"
"""Reason that applies to every mechanism: what was sent does not come from the mechanism alone."""

COUPLED = "a poison makes images depend on others, so each image is in several gradients"
"""Reason that applies to an epsilon of one example, but not to one of all data of a client."""


CHANGED = "the client poisons its update after the noise that it shares with others"
"""Reason that applies to noise of several clients: a larger update needs more of it."""


def opens(task: ClientTask) -> bool:
    """Return true if a defense neither claims an epsilon nor keeps those of the others."""
    return any(not each.keeps_guarantees and each.account is None for each in task.defenses)


def changes_noise(task: ClientTask) -> bool:
    """Return true if the client poisons the update to which its defenses have added noise."""
    return isinstance(task.role, Poisoning) and task.role.update is not None


def void_release(release: PrivacyRelease, task: ClientTask) -> PrivacyRelease:
    """Return a release with the reason why its epsilon does not hold, or as it is.

    Args:
        release: Cost of the round as the defense states it.
        task: Task of the client in the round.
    """
    account = account_of(release)
    if account is None:
        return release
    if task.exposed:
        return replace(release, void=EXPOSED)
    if release.shared_by and changes_noise(task):
        return replace(release, void=CHANGED)
    poison = task.role.data if isinstance(task.role, Poisoning) else None
    if poison is not None and poison.couples_images and account.unit == "example":
        return replace(release, void=COUPLED)
    return release
