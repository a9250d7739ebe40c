# ConvTranspose1d/2d/3d as torch.nn has them, computed by upconv: same constructor, parameters, state_dict and repr.
# Called by users and by optimize.
"""Drop-in modules for ``torch.nn.ConvTranspose{1,2,3}d``."""

from __future__ import annotations

from torch import nn

from ._call import run

__all__ = ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


class _Forward:
    """The forward of all three; everything else is torch.nn's."""

    def forward(self, input, output_size=None):
        if self.padding_mode != "zeros":
            raise ValueError(f"Only `zeros` padding mode is supported for {type(self).__name__}")
        rank = len(self.kernel_size)
        output_padding = self.output_padding
        if output_size is not None:
            output_padding = self._output_padding(
                input, output_size, self.stride, self.padding, self.kernel_size, rank, self.dilation
            )
        geometry = (*self.stride, *self.padding, *output_padding, *self.dilation, self.groups)
        return run(rank, input, self.weight, self.bias, geometry)


class ConvTranspose1d(_Forward, nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d`` computed by upconv: (N, C_in, L_in) or (C_in, L_in) to (N, C_out, L_out)."""


class ConvTranspose2d(_Forward, nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d`` computed by upconv: (N, C_in, H, W) or (C_in, H, W) to (N, C_out, H_out, W_out)."""


class ConvTranspose3d(_Forward, nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d`` computed by upconv: (N, C_in, D, H, W) or unbatched, to (N, C_out, ...)."""
