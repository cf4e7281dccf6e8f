"""Layer 0, over `backend`: linear operators, with an optional leading axis for rows or data sets."""

from .conjugate_gradients import conjugate_gradients
from .grid import Stationary
from .lanczos import Estimate, largest_eigenvalue
from .layouts import FieldShape, Grid, Layout, PathShape, Time
from .markov import BlockTridiagonal, GaussMarkov, Innovations
from .observed import ObservedCovariance
from .operators import (
    DENSE,
    Dense,
    Diagonal,
    Diagonalisable,
    Isotropic,
    LinearOperator,
    MatrixFree,
    Product,
    Selection,
    Spectral,
    Sum,
    Symmetric,
    Triangular,
    as_covariance,
    as_operator,
    cholesky,
    log_diagonal,
    matmat,
    matrix_transpose,
    matvec,
    project_psd,
    psd_or_diagonal,
    rmatvec,
    row_by_row,
    scaled_identity,
    solve_lower,
    solve_lower_transposed,
)
from .serialise import operator_from_dict, operator_to_dict, placed
from .structures import (
    BlockDiagonal,
    Blocks,
    DiagonalisableBlocks,
    LowRankUpdate,
    Stack,
    Subspace,
    block_diagonal,
    blocks_in_places,
    stacked,
)
