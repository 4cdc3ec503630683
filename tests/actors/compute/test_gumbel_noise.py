import numpy as np
import pytest

from tidemill.actors.compute.gumbel_noise import gumbel_noise

COUNT = 1 << 16


def uniforms(noise: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.exp(-np.exp(-noise))


def test_noise_depends_on_seed_position_and_id_alone() -> None:
    ids = np.arange(1000)
    all_of_them = gumbel_noise(7, 3, ids)
    chosen = np.array([999, 0, 511, 512, 7])
    assert np.array_equal(gumbel_noise(7, 3, chosen), all_of_them[chosen])
    assert [gumbel_noise(7, 3, np.array([i]))[0] for i in (0, 1, 999)] == all_of_them[[0, 1, 999]].tolist()
    assert not np.any(gumbel_noise(7, 4, ids) == all_of_them)
    assert not np.any(gumbel_noise(8, 3, ids) == all_of_them)


def test_the_bits_are_those_of_splitmix64() -> None:
    """Published outputs of SplitMix64 from state 0, as 52-bit fractions."""
    outputs = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
    expected = [-np.log(-np.log(((word >> 12) + 0.5) / 2**52)) for word in outputs]
    assert gumbel_noise(0, 0, np.arange(4)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("along", ["ids", "positions", "seeds"])
def test_noise_is_gumbel_along(along: str) -> None:
    one = np.array([5])
    if along == "ids":
        noise = gumbel_noise(11, 2, np.arange(COUNT))
    elif along == "positions":
        noise = np.concatenate([gumbel_noise(11, i, one) for i in range(4096)])
    else:
        noise = np.concatenate([gumbel_noise(i, 2, one) for i in range(4096)])
    counts, _ = np.histogram(uniforms(noise), bins=64, range=(0.0, 1.0))
    expected = len(noise) / 64
    # chi-square of 63 degrees of freedom: mean 63, deviation 11.2; 110 is passed once in 4,000 times
    assert ((counts - expected) ** 2 / expected).sum() < 110
    # the mean is Euler's constant, the variance pi²/6; 4 deviations of the mean
    assert abs(noise.mean() - np.euler_gamma) < 4 * np.sqrt(np.pi**2 / 6 / len(noise))


def test_neighbours_are_independent() -> None:
    u = uniforms(np.stack([gumbel_noise(seed, position, np.arange(COUNT)) for seed in (0, 1) for position in (8, 9)]))
    correlations = np.corrcoef(np.vstack([u, np.roll(u[:1], 1)]))[np.triu_indices(5, 1)]
    assert np.all(np.abs(correlations) < 4 / np.sqrt(COUNT)), correlations


def test_noise_is_finite_for_the_largest_keys() -> None:
    noise = gumbel_noise((1 << 63) - 1, (1 << 31) - 1, np.array([0, (1 << 31) - 1]))
    assert np.all(np.isfinite(noise))
