"""Searches by lower bounds find what a search of everything finds."""

import numpy as np
import pytest
import torch

from flawline.learning.neighbours import Apart, Shortening, nearest, nearest_by_bounds


def correlated(count: int, seed: int, width: int = 60) -> torch.Tensor:
    """Vectors like a network's features, which mostly vary along a few directions."""
    rng = np.random.default_rng(seed)
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(width, width)))[0]
    spread = 0.8 ** np.arange(width)
    return torch.from_numpy(5 + rng.normal(size=(count, width)) * spread @ turned).float()


@pytest.fixture
def bank() -> torch.Tensor:
    return correlated(1100, 1)


def shortening_of(bank: torch.Tensor) -> Shortening:
    found = Shortening.of(bank)
    assert found is not None
    return found


class TestShortening:
    def test_never_lengthens_a_distance(self, bank: torch.Tensor) -> None:
        shorten = shortening_of(bank)
        queries = correlated(50, 2)
        short, squares = shorten(queries)
        keys, _ = shorten(bank)
        assert short.shape[1] < queries.shape[1] / 2
        torch.testing.assert_close(short.square().sum(1), squares)
        bounds, distances = torch.cdist(short, keys), torch.cdist(queries, bank)
        assert (bounds <= distances + 1e-4).all()
        assert (bounds / distances).mean() > 0.8, "bounds that say something"

    def test_is_not_worth_it_where_all_directions_vary_alike(self) -> None:
        noise = torch.from_numpy(np.random.default_rng(0).normal(size=(2000, 60))).float()
        assert Shortening.of(noise) is None

    @pytest.mark.parametrize("count", [1, 5])
    def test_does_without_any_variance(self, count: int) -> None:
        same = torch.ones(count, 8)
        found = nearest_by_bounds(torch.zeros(3, 8), same, shortening_of(same))
        torch.testing.assert_close(found, torch.full((3,), 8**0.5))


class TestNearestByBounds:
    @pytest.mark.parametrize(
        ("queries_at_once", "bank_at_once", "group"), [(256, 8192, 64), (7, 128, 16), (50, 64, 64)]
    )
    @pytest.mark.parametrize("known", [1, 63, 64, 1100])
    def test_finds_the_distances_of_a_search_of_everything(
        self,
        monkeypatch: pytest.MonkeyPatch,
        bank: torch.Tensor,
        queries_at_once: int,
        bank_at_once: int,
        group: int,
        known: int,
    ) -> None:
        monkeypatch.setattr("flawline.learning.neighbours.BOUNDED", queries_at_once)
        monkeypatch.setattr("flawline.learning.neighbours.BOUNDS", bank_at_once)
        monkeypatch.setattr("flawline.learning.neighbours.GROUP", group)
        queries = torch.cat([correlated(60, 2), 3 * correlated(20, 3), bank[::50]]).half()
        found = nearest_by_bounds(queries, bank[:known], shortening_of(bank))
        exact = nearest(queries, bank[:known])[0][:, 0]
        torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-6)

    def test_compares_with_few(self, monkeypatch: pytest.MonkeyPatch, bank: torch.Tensor) -> None:
        compared: list[int] = []
        whole = torch.Tensor.split

        def split(tensor: torch.Tensor, size: int) -> tuple[torch.Tensor, ...]:
            if tensor.dtype == torch.int64:
                compared.append(len(tensor))
            return whole(tensor, size)

        monkeypatch.setattr(torch.Tensor, "split", split)
        nearest_by_bounds(correlated(300, 2), bank, shortening_of(bank))
        assert 0 < max(compared) < 300 * len(bank) / 20

    def test_leaves_vectors_of_the_same_image_out(self, bank: torch.Tensor) -> None:
        images = torch.from_numpy(np.random.default_rng(0).integers(0, 4, len(bank)))
        apart = Apart(images[::7], images)
        found = nearest_by_bounds(bank[::7], bank, shortening_of(bank), apart)
        assert found.min() > 0, "no vector finds itself"
        exact = nearest(bank[::7], bank, apart=apart)[0][:, 0]
        torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-6)

    def test_falls_back_on_the_same_image_where_there_is_no_other(self) -> None:
        bank = correlated(100, 1)
        same = torch.zeros(100, dtype=torch.int64)
        found = nearest_by_bounds(bank, bank, shortening_of(bank), Apart(same, same))
        assert torch.isfinite(found).all()
