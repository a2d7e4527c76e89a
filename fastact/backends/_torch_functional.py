"""Every function on PyTorch's tensors: `fastact.backends.torch.functional`."""

from fastact.backends._exports import exports
from fastact.backends._torch_calls import adapt

__getattr__, __dir__ = exports(__name__, adapt)
