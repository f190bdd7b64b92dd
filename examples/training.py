"""Join features with what is known of their rows."""

import pyarrow as pa


def join_labels(features: pa.Table, labels: pa.Table, key: tuple[str, ...]) -> pa.Table:
    """Keep the rows whose outcome is known, in the order of their keys: same rows, same model."""
    joined = features.join(labels, list(key), join_type="inner")
    return joined.sort_by([(column, "ascending") for column in key])
