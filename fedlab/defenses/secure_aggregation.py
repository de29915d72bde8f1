"""Secure aggregation at a client: its reply only ever becomes part of a sum.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning" (CCS 2017).
"""

from fedlab.defenses.pipeline import ClientContext, Pipeline


class SumWithOthers:
    """Secure aggregation as a defense of one round; it has no epsilon.

    It is simulated: the client sends its reply as ever, and the server takes the replies of all
    clients under it for their sum (``fedlab.server.secure_sum``).
    """

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """The pipeline as it is: what the client computes does not change."""
        return pipeline
