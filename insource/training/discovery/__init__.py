"""Discovery: which tasks a log holds, told by what is constant in its requests.

It knows examples and figures; not how the gateway matches a request, nor how results are shown.
"""

from insource.training.discovery.figures import Prices
from insource.training.discovery.finding import Discovery, discover

__all__ = ["Discovery", "Prices", "discover"]
