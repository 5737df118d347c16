"""Classification heads that shape embeddings: softmax and its relatives on the unit sphere.

A head maps embeddings (N, D) to logits (N, C): with labels, those of the loss, made harder by the
margin; without labels, the scores of the classes.
"""

import math

import torch
from torch import nn
from torch.nn.functional import linear, normalize


class Softmax(nn.Linear):
    """Plain logits."""

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(embeddings)

    def projections(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Project embeddings on each class's direction, for Grad-CAM.

        Logits of normalised embeddings would not do: they do not grow with the embedding, so the
        contributions of a feature map's places sum to zero, and part of every image lights up.
        """
        return linear(embeddings, self.weight)


class L2Softmax(Softmax):
    """Logits of embeddings of one length (Ranjan, Castillo, Chellappa, 2017)."""

    def __init__(self, dimensions: int, classes: int, scale: float) -> None:
        super().__init__(dimensions, classes)
        self.scale = scale

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(self.scale * normalize(embeddings, dim=1))


class Cosine(nn.Module):
    """Cosines between embeddings and one vector per class, times `scale` in the loss."""

    def __init__(self, dimensions: int, classes: int, scale: float, margin: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dimensions))
        nn.init.xavier_normal_(self.weight)
        self.scale, self.margin = scale, margin

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        cosines = linear(normalize(embeddings, dim=1), normalize(self.weight, dim=1))
        if labels is None:
            return cosines
        own = cosines.gather(1, labels[:, None])
        return self.scale * cosines.scatter(1, labels[:, None], self.harder(own))

    def harder(self, own: torch.Tensor) -> torch.Tensor:
        """Subtract the margin from the cosine to the own class."""
        return own

    def projections(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Project as `Softmax.projections`."""
        return linear(embeddings, normalize(self.weight, dim=1))


class CosFace(Cosine):
    """cos(angle) - margin (Wang et al., 2018)."""

    def harder(self, own: torch.Tensor) -> torch.Tensor:
        return own - self.margin


class ArcFace(Cosine):
    """cos(angle + margin) (Deng, Guo, Xue, Zafeiriou, 2019)."""

    def harder(self, own: torch.Tensor) -> torch.Tensor:
        sine = (1 - own.square()).clamp(min=1e-12).sqrt()
        turned = own * math.cos(self.margin) - sine * math.sin(self.margin)
        # beyond 180 degrees the cosine would rise again, so continue falling instead
        beyond = own < math.cos(math.pi - self.margin)
        return torch.where(beyond, own - self.margin * math.sin(self.margin), turned)


class AdaCos(Cosine):
    """A scale that follows the training instead of a margin (Zhang, Zhao, Qiao, Wang, Li, 2019).

    Parameters
    ----------
    least : least scale. With two or three classes the rule itself leads to zero or below, where
        nothing is learned.
    """

    current: torch.Tensor

    def __init__(self, dimensions: int, classes: int, least: float) -> None:
        super().__init__(dimensions, classes, 1.0)
        self.least = least
        self.register_buffer("current", torch.tensor(max(fixed_scale(classes), least)))

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        cosines = super().forward(embeddings)
        if labels is None:
            return cosines
        if self.training:
            self.current.copy_(self.next_scale(cosines.detach(), labels).clamp(min=self.least))
        return self.current.clone() * cosines

    def next_scale(self, cosines: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compute the dynamic scale.

        It is ln(mean over images of the other classes' exponentials) / cos(median angle to the
        own class, at most 45 degrees).
        """
        others = torch.exp(self.current * cosines).scatter(1, labels[:, None], 0).sum(1).mean()
        median = cosines.gather(1, labels[:, None]).clamp(-1, 1).acos().median()
        return others.log() / median.clamp(max=math.pi / 4).cos()


def fixed_scale(classes: int) -> float:
    """Return AdaCos's fixed scale; zero for two classes."""
    return math.sqrt(2) * math.log(classes - 1)
