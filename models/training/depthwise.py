"""Depthwise convolutions that learn at a decent pace in bfloat16.

oneDNN answers some backward passes of bfloat16 depthwise convolutions with a reference kernel: for 5x5 with stride 2 it takes 106 ms where
float32 takes 5, for the weights of any 5x5 47 instead of 14 (torch 2.13, AVX512-BF16, two threads). Exactly those passes go by float32
here; an epoch then takes half the time. Nothing else changes: forward is what it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


@contextmanager
def fast_depthwise(network: nn.Module) -> Iterator[None]:
    """While it lasts, the depthwise convolutions of `network` go through `Depthwise` wherever autocast asks for bfloat16."""
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1]
    for layer in layers:
        layer._conv_forward = partial(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer._conv_forward


def _forward(layer: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is not None or x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return nn.Conv2d._conv_forward(layer, x, weight, bias)
    answer: Tensor = Depthwise.apply(x.bfloat16(), weight, layer.stride[0], layer.kernel_size[0] // 2)
    return answer


class Depthwise(torch.autograd.Function):
    """x bfloat16 (n, c, h, w), weight float32 (c, 1, k, k) -> bfloat16; padding k // 2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight.to(x.dtype), None, stride, padding, 1, x.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (grad,), (x, weight) = grads, ctx.saved_tensors
        exact = partial(_backward, grad.float(), x.float(), weight, ctx.stride, ctx.padding)
        quick = partial(_backward, grad, x, weight.to(x.dtype), ctx.stride, ctx.padding)
        to_x, to_weight = (exact if ctx.stride > 1 else quick), (quick if ctx.stride == 1 and weight.shape[2] == 3 else exact)
        return to_x(True)[0].to(x.dtype), to_weight(False)[1].float(), None, None


def _backward(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, to_x: bool) -> tuple[Tensor, Tensor]:
    """(gradient of x, of the weight): only the one that is asked for."""
    asked = [to_x, not to_x, False]
    found = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], x.shape[1], asked
    )
    return found[0], found[1]
