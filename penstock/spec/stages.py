"""The stages at which rows are judged: a source, by its name, and these."""

from typing import Final

FEATURES: Final = "features"
SCORES: Final = "scores"
MODEL = "model"
"""Stage of rows that the model itself refuses, such as rows with an unseen category."""
OUTPUTS: Final = "outputs"
"""The part of a recorded row that has its scores."""
KEY_IS_NULL = "the key is NULL"
