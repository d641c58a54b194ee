"""A frozen bottom for tables: columns as cells in [0, 1], whitened. ``fitting`` learns it, ``network`` applies it."""

from vfl.models.encodings.cells import TrainingFeatures
from vfl.models.encodings.fitting import fit_encodings
from vfl.models.encodings.network import EncodingsNetwork

__all__ = ["EncodingsNetwork", "TrainingFeatures", "fit_encodings"]
