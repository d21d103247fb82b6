"""LSTM autoencoder: encoder LSTM → latent → repeat → decoder LSTM → dense (Malhotra et al., arXiv:1607.00148), beside a
narrow linear path that takes what is linear off its hands.

The net is told which cells were seen by a second input, not by Keras masking, so that cuDNN and ONNX stay possible.
"""

from __future__ import annotations

from typing import Any


def build_lstm_autoencoder(
    length: int,
    channels: int,
    *,
    units: int = 48,
    depth: int = 1,
    latent: int = 16,
    linear: int = 16,
    dropout: float = 0.0,
    seed: int = 0,
) -> Any:
    """Build the untrained net as a `keras.Model` with inputs `values` and `mask`, each `(window, length, channels)`.

    The output has the same shape: every cell as the net expects it, in scaled units. The same arguments give the same
    weights. Importing Keras happens here, not with this module.

    Parameters: `length` rows a window, ≥ 2; `channels` tags, ≥ 1; `units` per LSTM, ≥ 1; `depth` LSTMs each way, ≥ 1;
    `latent` size of the bottleneck, ≥ 1; `linear` size of the linear path's, 0 for none; `dropout` between layers,
    share 0..1 (exclusive); `seed` of every initial weight. Raises ValueError outside these ranges.
    """
    if length < 2 or min(channels, units, depth, latent) < 1 or linear < 0 or not 0.0 <= dropout < 1.0:
        raise ValueError(
            f"length={length}, channels={channels}, units={units}, depth={depth}, latent={latent}, linear={linear}, "
            f"dropout={dropout}: "
            "expected length ≥ 2, linear ≥ 0, 0 ≤ dropout < 1 and the others ≥ 1"
        )
    import keras  # noqa: PLC0415  (TensorFlow costs ten seconds: only who builds a net pays)

    values = keras.Input((length, channels), name="values")
    mask = keras.Input((length, channels), name="mask")
    seeds = iter(range(1_000 * seed, 1_000 * seed + 1_000))
    seen = keras.layers.Multiply(name="seen")([values, mask])
    x = keras.layers.Concatenate(name="cells")([seen, mask])
    for level in range(depth):
        x = _lstm(keras, units, f"encoder_{level}", level < depth - 1, seeds)(x)
    x = _dropout(keras, dropout, "encoder_dropout", seeds)(x)
    x = keras.layers.Dense(latent, activation="tanh", kernel_initializer=_glorot(keras, seeds), name="latent")(x)
    x = keras.layers.RepeatVector(length, name="repeat")(x)
    for level in range(depth):
        x = _lstm(keras, units, f"decoder_{level}", True, seeds)(x)
    x = _dropout(keras, dropout, "decoder_dropout", seeds)(x)
    x = keras.layers.Dense(channels, kernel_initializer=_glorot(keras, seeds), name="bent")(x)
    output = keras.layers.Add(name="expected")([x, _straight(keras, seen, mask, linear, seeds)]) if linear else x
    return keras.Model([values, mask], output, name="lstm_autoencoder")


def _straight(keras: Any, seen: Any, mask: Any, size: int, seeds: Any) -> Any:
    """The linear part: the whole window through a narrow linear layer and back.

    What is linear between the tags is learned in minutes here, and in days by an LSTM (detection.md: a naive LSTM
    autoencoder is worse than window-PCA because it must relearn what is linear).
    """
    _, length, channels = seen.shape
    cells = keras.layers.Flatten(name="cells_in_a_row")(keras.layers.Concatenate(name="cells_and_mask")([seen, mask]))
    code = keras.layers.Dense(size, kernel_initializer=_glorot(keras, seeds), name="linear_latent")(cells)
    back = keras.layers.Dense(length * channels, kernel_initializer=_glorot(keras, seeds), name="linear_back")(code)
    return keras.layers.Reshape((length, channels), name="linear")(back)


def _lstm(keras: Any, units: int, name: str, sequences: bool, seeds: Any) -> Any:
    """One LSTM layer in the form cuDNN accepts: tanh/sigmoid, biased, not unrolled, no recurrent dropout."""
    return keras.layers.LSTM(
        units,
        return_sequences=sequences,
        kernel_initializer=_glorot(keras, seeds),
        recurrent_initializer=keras.initializers.Orthogonal(seed=next(seeds)),
        name=name,
    )


def _dropout(keras: Any, share: float, name: str, seeds: Any) -> Any:
    """Seeded dropout; at share 0 it passes everything on and leaves no trace in the exported graph."""
    return keras.layers.Dropout(share, seed=next(seeds), name=name)


def _glorot(keras: Any, seeds: Any) -> Any:
    """A seeded Glorot initialiser (Glorot & Bengio 2010)."""
    return keras.initializers.GlorotUniform(seed=next(seeds))
