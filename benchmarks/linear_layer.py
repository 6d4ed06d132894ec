"""Is a linear layer on the CPU faster as a 1x1 convolution?  python benchmarks/linear_layer.py

F.linear goes to MKL, a channels-last 1x1 convolution to oneDNN; liif_torch/models/mlp.py chooses by this.
"""

import common
import torch
import torch.nn.functional as F

ROWS, WIDTH = 4096, 256


def main() -> None:
    """The hidden layer of LIIF's MLP on one tile of queries, 50 times per run."""
    x, weight, bias = torch.randn(16, ROWS // 16, WIDTH), torch.randn(WIDTH, WIDTH) / 16, torch.randn(WIDTH)
    image = x.unsqueeze(1).permute(0, 3, 1, 2)  # (16, 256, 1, 256), channels last in memory

    def linear():
        for _ in range(50):
            F.linear(x, weight, bias)

    def convolution():
        for _ in range(50):
            F.conv2d(image, weight[:, :, None, None], bias)

    with torch.no_grad():
        expected = F.linear(x, weight, bias).unsqueeze(1).permute(0, 3, 1, 2)
        largest = expected - F.conv2d(image, weight[:, :, None, None], bias)
        seconds = common.paired({"F.linear": linear, "1x1 convolution": convolution}, runs=9)
    print(common.describe_machine())
    common.print_table(f"{ROWS} rows, {WIDTH} -> {WIDTH}, 50 times", seconds)
    for name, values in seconds.items():
        print(f"{name}: {50 * 2 * ROWS * WIDTH**2 / sorted(values)[len(values) // 2] / 1e9:.0f} GFLOP/s")
    print(f"largest difference {largest.abs().max():.1e}")


if __name__ == "__main__":
    main()
