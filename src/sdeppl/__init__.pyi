# Written by tests/packaging/write_stub.py.
# ruff: noqa: I001

from . import plots as plots
from . import reference as reference
from .backend import (
    Backend as Backend,
    BackendMismatch as BackendMismatch,
    BackendUnavailable as BackendUnavailable,
    Noise as Noise,
    OnnxFunction as OnnxFunction,
    resolve as resolve,
    to_host as to_host,
)
from .denoisers import (
    ArrayMLP as ArrayMLP,
    CallableDenoiser as CallableDenoiser,
    Denoiser as Denoiser,
    GaussianDenoiser as GaussianDenoiser,
    GaussianMixtureDenoiser as GaussianMixtureDenoiser,
    Moments as Moments,
    NetworkDenoiser as NetworkDenoiser,
)
from .diagnostics import (
    Calibration as Calibration,
    Comparison as Comparison,
    LocalC2ST as LocalC2ST,
    ScoreCheck as ScoreCheck,
    Simulations as Simulations,
    check_score as check_score,
    compare as compare,
    coverage as coverage,
    local_c2st as local_c2st,
    posterior_sbc as posterior_sbc,
    sbc as sbc,
    simulate_posteriors as simulate_posteriors,
    tarp as tarp,
    to_arviz as to_arviz,
)
from .distributions import (
    Censored as Censored,
    Diffusion as Diffusion,
    Interval as Interval,
    SDEPath as SDEPath,
    WienerReparam as WienerReparam,
)
from .guide import (
    CorruptFile as CorruptFile,
    ScoreGuide as ScoreGuide,
)
from .likelihood import (
    CubatureDenoiser as CubatureDenoiser,
    DPSDenoiser as DPSDenoiser,
    DensityObservation as DensityObservation,
    IndependentObservation as IndependentObservation,
    JointObservation as JointObservation,
    LinearConstraint as LinearConstraint,
    LinearGaussian as LinearGaussian,
    Linearisation as Linearisation,
    MeanLikelihood as MeanLikelihood,
    MonteCarloDenoiser as MonteCarloDenoiser,
    NaiveDenoiser as NaiveDenoiser,
    NestedDenoiser as NestedDenoiser,
    NonlinearGaussian as NonlinearGaussian,
    NotDifferentiable as NotDifferentiable,
    Observation as Observation,
    PiGDMDenoiser as PiGDMDenoiser,
    SDADenoiser as SDADenoiser,
    Surrogate as Surrogate,
    TweedieDenoiser as TweedieDenoiser,
    classifier_observation as classifier_observation,
    exact_posterior as exact_posterior,
    joint_observation as joint_observation,
)
from .nn import (
    ResidualMLP as ResidualMLP,
    export_onnx as export_onnx,
)
from .posterior import (
    Diagnosis as Diagnosis,
    LangevinCorrector as LangevinCorrector,
    LogDensity as LogDensity,
    PortablePosterior as PortablePosterior,
    Posterior as Posterior,
    PosteriorRun as PosteriorRun,
    PosteriorRuns as PosteriorRuns,
    Posteriors as Posteriors,
    SignalLeftWarning as SignalLeftWarning,
    TemperedSMC as TemperedSMC,
    TwistedSMC as TwistedSMC,
    UntrustedWarning as UntrustedWarning,
    load_posterior as load_posterior,
    log_density as log_density,
)
from .query import (
    ApproximateWarning as ApproximateWarning,
    LinearisedWarning as LinearisedWarning,
    RankWarning as RankWarning,
    SitePosterior as SitePosterior,
    SitePosteriors as SitePosteriors,
)
from .reporting import (
    Report as Report,
    report as report,
)
from .sde import (
    AffineMarginals as AffineMarginals,
    AffineSDE as AffineSDE,
    CallableSchedule as CallableSchedule,
    CallableVESDE as CallableVESDE,
    ConstantSchedule as ConstantSchedule,
    CosineSchedule as CosineSchedule,
    CriticallyDampedSDE as CriticallyDampedSDE,
    DataAnchoredSDE as DataAnchoredSDE,
    DoubleWell as DoubleWell,
    EDMSDE as EDMSDE,
    FokkerPlanckGrid as FokkerPlanckGrid,
    GeometricBrownianMotion as GeometricBrownianMotion,
    IsotropicSDE as IsotropicSDE,
    ItoSDE as ItoSDE,
    LangevinSDE as LangevinSDE,
    LinearSDE as LinearSDE,
    LinearSchedule as LinearSchedule,
    Lorenz63 as Lorenz63,
    Lorenz96 as Lorenz96,
    MatrixLinearSDE as MatrixLinearSDE,
    ReverseSDE as ReverseSDE,
    SDE as SDE,
    Schedule as Schedule,
    ShiftedVPSDE as ShiftedVPSDE,
    StratonovichSDE as StratonovichSDE,
    SubVPSDE as SubVPSDE,
    Transition as Transition,
    VESDE as VESDE,
    VPSDE as VPSDE,
    ddpm_grid as ddpm_grid,
    edm_grid as edm_grid,
    log_snr_grid as log_snr_grid,
    ncsn_grid as ncsn_grid,
    quadratic_grid as quadratic_grid,
    to_ito as to_ito,
    to_stratonovich as to_stratonovich,
    uniform_grid as uniform_grid,
)
from .solvers import (
    AncestralSampler as AncestralSampler,
    BAOAB as BAOAB,
    BrownianPath as BrownianPath,
    DPMSolverPP as DPMSolverPP,
    DormandPrince54 as DormandPrince54,
    EDMHeun as EDMHeun,
    EulerMaruyama as EulerMaruyama,
    ExactAffine as ExactAffine,
    ExponentialEuler as ExponentialEuler,
    ExponentialHeun as ExponentialHeun,
    MidpointSSCS as MidpointSSCS,
    Milstein as Milstein,
    MilsteinLevy as MilsteinLevy,
    NonFiniteState as NonFiniteState,
    PIController as PIController,
    Path as Path,
    PlatenWeak2 as PlatenWeak2,
    PredictorCorrector as PredictorCorrector,
    RungeKutta4 as RungeKutta4,
    SRA1 as SRA1,
    SRIW1 as SRIW1,
    SSCS as SSCS,
    Solver as Solver,
    StochasticHeun as StochasticHeun,
    Tsitouras54 as Tsitouras54,
    UniPC as UniPC,
    solve as solve,
)
from .tracing import (
    ModelError as ModelError,
)
from .training import (
    Gain as Gain,
    ScoreMatching as ScoreMatching,
)

__version__: str
__all__: list[str]
