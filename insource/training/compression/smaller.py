"""The smaller encoder itself: parts taken out, fewer bits, and the trunk that serves it.

It knows weights and sample texts; not heads, thresholds or the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from insource.errors import UserError
from insource.training.base_models import BaseModel
from insource.training.compression.checkpoint import Checkpoint
from insource.training.compression.forward import Sample, activations
from insource.training.compression.prune_heads import prune_heads
from insource.training.compression.prune_layers import kept_layers, prune_layers
from insource.training.compression.prune_vocabulary import prune_vocabulary
from insource.training.compression.prune_width import prune_width
from insource.training.compression.sample import spread, tokens_of
from insource.training.compression.sources import Source
from insource.training.encoder_graph import PRECISIONS
from insource.training.encoder_weights import read_shape
from insource.training.run import Workshop


@dataclass(frozen=True, slots=True)
class How:
    """What to do, in this order: keep so many `layers`, take out a share of `heads`, of `width`, and the words never
    seen (`vocabulary`), and `quantise` to a precision; None leaves it as it is."""

    layers: int | None = None
    heads: float | None = None
    width: float | None = None
    vocabulary: bool = False
    quantise: str | None = None

    @property
    def prunes(self) -> bool:
        """Whether weights are taken out at all."""
        return self.vocabulary or any(each is not None for each in (self.layers, self.heads, self.width))

    def told(self) -> dict[str, Any]:
        """Return what is to be done, without what is not."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True, slots=True)
class Smaller:
    """A smaller encoder: the digest of its trunk, its precision, its weights, and whether words were taken out."""

    trunk: str
    precision: str
    base: BaseModel
    lacks_words: bool


def make_smaller(
    source: Source, base: BaseModel, how: How, shop: Workshop, scratch: Path, made: Callable[[str], None]
) -> Smaller:
    """Build the trunk of a source's encoder made smaller; `made` is told the digest of each artifact that is written.

    Only rows to learn from have a say. `scratch` is an empty folder for the steps between. Raises UserError for a
    number of layers, a share or a precision that cannot be.
    """
    precision = how.quantise or shop.room.get(source.trunk).info.precision
    if precision not in PRECISIONS:
        raise UserError(f"The precision is {precision!r}; one of {', '.join(PRECISIONS)} was expected.")
    busy = shop.say("taking parts out" if how.prunes else "preparing the weights")
    busy(0, None)
    texts = [source.snapshot.texts[i] for i in source.split.learn]
    whole = base
    base = _pruned(base, how, texts, source.words, scratch)
    busy(1, 1)
    encoder = shop.room.encoder_of(source.trunk)
    if how.prunes:
        checkpoint = Checkpoint.read(base)
        with shop.artifacts.draft() as folder:
            checkpoint.write(folder)
            encoder = shop.artifacts.commit(
                folder, {"kind": "encoder", "base": whole.name, "base_digest": whole.digest}
            )
        made(encoder)
        base = shop.room.kept(encoder)
    inside = None
    if precision in ("int8-static", "int4"):
        inside = activations(Checkpoint.read(base), Sample(tokens_of(base, spread(texts))))
    one_window = shop.room.build(base, precision, encoder, inside)
    made(one_window)
    trunk = shop.room.windowed(one_window, shop.room.get(source.trunk).info.windows)
    made(trunk)
    return Smaller(trunk, precision, base, how.vocabulary)


def _pruned(base: BaseModel, how: How, texts: Sequence[str], words: Sequence[str], scratch: Path) -> BaseModel:
    if how.layers is not None:
        layers = read_shape(base.folder).layers
        if not 0 < how.layers < layers:
            raise UserError(
                f"{how.layers} layers are to be left; 1 to {layers - 1} was expected, as there are {layers}."
            )
        base = prune_layers(base, scratch / "layers", kept_layers(how.layers, layers), tokens_of(base, spread(texts)))
    if how.heads is not None:
        base = prune_heads(base, scratch / "heads", how.heads, tokens_of(base, spread(texts)))
    if how.width is not None:
        base = prune_width(base, scratch / "width", how.width, tokens_of(base, spread(texts)))
    if how.vocabulary:
        base = prune_vocabulary(base, scratch / "vocabulary", tokens_of(base, [*texts, *words]))
    return base
