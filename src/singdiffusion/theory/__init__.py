"""The method's claims as numbers: the propositions, the removable singularity, the samplers, and the bias of brightness."""
