"""An attack on a capture as a job, which any process can carry out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from attacks.reconstruction import AttackSettings, Reconstruction
from attacks.reconstruction.learned import LearnedInverter
from attacks.reconstruction.watch import Watch
from fedlab.core.network_errors import NetworkFailed, naming_network
from fedlab.core.seeds import derive, generator, seeded
from fedlab.scenario.tables import Reconstruct
from fedlab.server.attacker import Attacker, Earlier, attack_of
from fedlab.server.captures import Capture


@dataclass(frozen=True)
class AttackJob:
    """An attack on a capture.

    Attributes:
        attacker: The attacker.
        capture: The captured update.
        entry: Settings of the attack.
        network: Words for the network in error messages.
        seed: Root seed of the attack's random numbers.
        stream: Purpose and key of these, by which they differ from all others.
        labels: Known labels; ``None`` to infer them.
        order: Known order of the images in local steps; ``None`` to assume one.
        settings: Settings that were tuned for this kind of client; ``None`` for those of the entry.
        earlier: Earlier captures of the same images, which are attacked jointly.
        check: Look for signs that the client did not train as it was asked to.
    """

    attacker: Attacker
    capture: Capture
    entry: Reconstruct
    network: str
    seed: int
    stream: tuple[str, Sequence[int]]
    labels: Tensor | None
    order: tuple[Tensor, ...] | None
    settings: AttackSettings | None
    earlier: tuple[Earlier, ...] = ()
    check: bool = True

    def run(self, watch: Watch | None = None) -> Reconstruction:
        """Carry out the attack.

        Args:
            watch: Callback that receives the progress.

        Raises:
            ValueError: If the capture cannot be attacked.
            PluginFailed: If the network or a plug-in of the attack fails.
        """
        purpose, key = self.stream
        own = derive(self.seed, f"{purpose}, own draws", *key)
        with naming_network(self.network), seeded(own, self.attacker.device):
            found = self.attacker.attack(
                self.capture,
                self.entry,
                labels=self.labels,
                order=self.order,
                earlier=self.earlier,
                generator=generator(self.seed, purpose, *key),
                attack=self.settings,
                check=self.check,
                watch=watch,
            )
        if isinstance(found.attack.method, LearnedInverter):
            # A network of some 15 MiB would stay with every result.
            return replace(found, attack=attack_of(self.entry))
        return found


def carried_out(job: AttackJob) -> Reconstruction | ValueError | NetworkFailed:
    """What an attack rebuilt, or why the capture cannot be attacked."""
    try:
        return job.run()
    except (ValueError, NetworkFailed) as error:
        return error
