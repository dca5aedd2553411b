"""Sparse matrices for torch."""

import warnings
from typing import Any

import torch
from scipy.sparse import csr_array
from torch import Tensor


def csr_tensor(matrix: "csr_array[Any, Any]") -> Tensor:
    """The same matrix as a sparse CSR tensor, without a copy where torch and scipy count alike."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr),
            torch.from_numpy(matrix.indices),
            torch.from_numpy(matrix.data),
            size=matrix.shape,
            check_invariants=False,
        )
