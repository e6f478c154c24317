"""insource.toml, read once into frozen models: flag over environment over file over default, each with its origin.

It knows what people set; what was learned (thresholds, stages) is in the registry, and secrets are only named here.
"""

from insource.config.checking import check_flag
from insource.config.loading import FILE_NAME, load
from insource.config.models import (
    Allowed,
    Config,
    EmbeddingsConfig,
    GatewayConfig,
    PolicyConfig,
    StoreConfig,
    UpstreamConfig,
)
from insource.config.settings import SETTINGS, Setting

__all__ = ["FILE_NAME", "SETTINGS", "Allowed", "Config", "EmbeddingsConfig", "GatewayConfig", "PolicyConfig",
           "Setting", "StoreConfig", "UpstreamConfig", "check_flag", "load"]  # fmt: skip
