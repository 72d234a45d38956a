"""AutoDerain in JAX: search a deraining network, train it, use it."""

from autoderain_jax.candidates import add_candidate
from autoderain_jax.derainer import Derainer
from autoderain_jax.errors import InputError
from autoderain_jax.genotype import Genotype
from autoderain_jax.model import Model
from autoderain_jax.network import DerainNet, NetworkConfig

__all__ = ["DerainNet", "Derainer", "Genotype", "InputError", "Model", "NetworkConfig", "__version__", "add_candidate"]

__version__ = "0.1.0"
