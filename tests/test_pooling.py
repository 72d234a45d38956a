"""Windowed means against means worked out window by window."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autoderain_jax.pooling import cell_of, spread, window_means


def test_cells_are_an_eighth_of_a_window_or_a_little_less():
    assert [cell_of(side) for side in (1, 8, 15, 16, 31, 64, 100, 128)] == [1, 1, 1, 2, 2, 8, 8, 16]


@pytest.mark.parametrize(
    ("side", "shape"), [(3, (9, 12)), (1, (4, 5)), (16, (37, 50)), (64, (120, 75)), (64, (30, 200))]
)
def test_nodes_hold_the_means_of_their_windows(side, shape):
    cell = cell_of(side)
    x = np.asarray(jax.random.uniform(jax.random.key(0), (2, *shape, 3)))
    found = jax.jit(window_means, static_argnums=(1, 2))(x, side, shape)
    windows = []
    for length in shape:
        cells = -(-length // cell)
        size = min(side // cell, cells)
        starts = [int(np.clip(k - size // 2, 0, cells - size)) for k in range(cells)]
        windows.append([slice(start * cell, (start + size) * cell) for start in starts])
    expected = np.stack([np.stack([x[:, r, c].mean((1, 2)) for c in windows[1]], 1) for r in windows[0]], 1)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_mean_does_not_depend_on_where_the_image_begins():
    x = jax.random.uniform(jax.random.key(0), (1, 128, 128, 3))
    means = jax.jit(window_means, static_argnums=(1, 2))
    whole, part = means(x, 32, (128, 128)), means(x[:, 16:, 32:], 32, (112, 96))
    chex.assert_trees_all_equal(whole[:, 8:, 12:], part[:, 4:, 4:])


def test_what_lies_between_nodes_is_interpolated():
    nodes = jnp.arange(12.0).reshape(1, 3, 4, 1) ** 2
    side, cell = 32, cell_of(32)
    between = np.asarray(spread(nodes, side, (3 * cell - 1, 4 * cell)))[0, ..., 0]
    assert between.shape == (3 * cell - 1, 4 * cell)
    np.testing.assert_allclose(between[::cell, ::cell], np.asarray(nodes)[0, ..., 0])
    np.testing.assert_allclose(between[0, 1], 0.75 * nodes[0, 0, 0, 0] + 0.25 * nodes[0, 0, 1, 0])
    # Behind the last node nothing changes.
    np.testing.assert_allclose(between[0, -cell:], nodes[0, 0, -1, 0])
