"""insource: specialists made from your own API traffic, answering only where a statistical bound says they may.

Importing it loads nothing else; `load`, `train`, `compare` and `backtest` are fetched when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from insource.python_api import backtest, compare, load, train

__version__ = "0.1.0"
__all__ = ["__version__", "backtest", "compare", "load", "train"]


def __getattr__(name: str) -> Any:
    """Fetch the Python door's functions on first use (PEP 562)."""
    if name in ("backtest", "compare", "load", "train"):
        from insource import python_api

        return getattr(python_api, name)
    raise AttributeError(f"module 'insource' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
