"""Grad-CAM: where a network sees a class.

Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra: Grad-CAM, ICCV 2017.
"""

from collections.abc import Callable

import torch


def grad_cam(
    feature_map: torch.Tensor, class_scores: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Map how much each place speaks for each class, on one scale for all images.

    Parameters
    ----------
    feature_map : float (N, K, h, w), the last convolutional one.
    class_scores : maps it to scores (N, C), each image independently.

    Returns
    -------
    float32 (N, C, h, w), not negative.
    """
    with torch.enable_grad():
        feature_map = feature_map.detach().float().requires_grad_()
        scores = class_scores(feature_map)
        maps = []
        # images are independent, so the gradient of the sum is that of each
        for score in scores.sum(0):
            (gradient,) = torch.autograd.grad(score, feature_map, retain_graph=True)
            weights = gradient.sum((2, 3))  # equation 1, times the number of places
            maps.append(torch.einsum("nkhw,nk->nhw", feature_map, weights).relu())  # equation 2
    return torch.stack(maps, 1).detach()
