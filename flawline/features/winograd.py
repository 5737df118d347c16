"""Convolutions of 3 x 3 with a quarter of the multiplications."""

import torch
from torch import nn
from torch.nn import functional

# F(4x4, 3x3), at the points 0, 1, -1, 2, -2 and infinity
_INPUT = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float64,
)
_KERNEL = torch.tensor(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64
).div_(24)
_OUTPUT = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    dtype=torch.float64,
)
FEWEST_CHANNELS = 128  # with fewer, the transforms take what the products save
WORKING_BYTES = 8 << 20
LARGEST_IMAGE = (
    64 << 20
)  # bytes of an image's transformed tiles; beyond, the plain way needs less memory


class WinogradConvolution(nn.Module):
    """A convolution of 3 x 3, stride 1, by minimal filtering of tiles of 4 x 4.

    Every 6 x 6 pixels of the padded input are transformed, multiplied with the transformed kernel
    as 36 matrix products over the channels, and transformed to 4 x 4 of the output: 36 products
    instead of 144 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016,
    section 4). Results are those of the plain convolution up to rounding, about 1e-6 of their norm.

    Parameters
    ----------
    plain : the convolution that it stands for, padded by one zero, of one group. Its parameters
        keep their names.
    """

    kernels: torch.Tensor
    to_products: torch.Tensor
    to_output: torch.Tensor

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = plain.weight, plain.bias
        kernels = torch.einsum("ai,kcij,bj->abck", _KERNEL, plain.weight.double(), _KERNEL)
        transforms = {
            "kernels": kernels.flatten(0, 1),
            "to_products": torch.kron(_INPUT, _INPUT),
            "to_output": torch.kron(_OUTPUT, _OUTPUT),
        }
        for name, matrix in transforms.items():
            self.register_buffer(name, matrix.float().contiguous(), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Convolve float32 (N, C, H, W); the result's memory is channels-last."""
        count, channels, height, width = images.shape
        rows, columns = -(-height // 4), -(-width // 4)
        per_image = 36 * rows * columns * channels * images.itemsize
        exported = torch.compiler.is_exporting() or torch.jit.is_tracing()
        if exported or per_image > LARGEST_IMAGE:
            return functional.conv2d(images, self.weight, self.bias, padding=1)
        convolved = images.new_empty(count, rows, 4, columns, 4, len(self.weight))
        at_once = max(WORKING_BYTES // per_image, 1)
        for part in range(0, count, at_once):
            chunk = slice(part, part + at_once)
            self._convolve(images[chunk].permute(0, 2, 3, 1), convolved[chunk])
        whole = convolved.view(count, 4 * rows, 4 * columns, -1)[:, :height, :width]
        return whole.permute(0, 3, 1, 2)

    def _convolve(self, images: torch.Tensor, convolved: torch.Tensor) -> None:
        """Convolve (N, H, W, C) into tiles (N, rows, 4, columns, 4, K)."""
        count, height, width, channels = images.shape
        rows, columns = convolved.shape[1], convolved.shape[3]
        right, below = 4 * columns + 1 - width, 4 * rows + 1 - height
        padded = functional.pad(images, (0, 0, 1, right, 1, below)).contiguous()
        per_image, per_row, per_pixel, _ = padded.stride()
        tiles = padded.as_strided(
            (6, 6, count, rows, columns, channels),
            (per_row, per_pixel, per_image, 4 * per_row, 4 * per_pixel, 1),
        )
        transformed = (self.to_products @ tiles.reshape(36, -1)).view(36, -1, channels)
        products = torch.bmm(transformed, self.kernels)
        if self.bias is not None:
            products[7] += self.bias  # the point (1, 1), which adds to all 4 x 4 alike
        found = (self.to_output @ products.view(36, -1)).view(4, 4, count, rows, columns, -1)
        convolved.copy_(found.permute(2, 3, 0, 4, 1, 5))


def use_winograd(network: nn.Module) -> nn.Module:
    """Replace the convolutions of a frozen network on which it saves time, in place.

    For float32 on a CPU; a GPU's library chooses among such methods itself.
    """
    for name, module in list(network.named_modules()):
        if type(module) is nn.Conv2d and _saves_time(module):
            network.set_submodule(name, WinogradConvolution(module))
    return network


def _saves_time(convolution: nn.Conv2d) -> bool:
    return (
        convolution.kernel_size == (3, 3)
        and convolution.stride == convolution.dilation == (1, 1)
        and convolution.padding == (1, 1)
        and convolution.padding_mode == "zeros"
        and convolution.groups == 1
        and min(convolution.in_channels, convolution.out_channels) >= FEWEST_CHANNELS
    )
