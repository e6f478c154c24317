"""The ONNX graph of a whole specialist: what its engine computes for one text, and its scorer behind that.

It knows the arrays of the engines and of the scorer, and a trunk's graph as it is; nothing of texts, tokens or
thresholds. Everything after the logits is in double precision, as where a specialist serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from insource.backends import encoder
from insource.backends.onnx import TINY as WINDOW_TINY
from insource.backends.onnx import TrunkInfo
from insource.risk.agreement import FEATURES, NEVER, SURE
from insource.risk.scores import TIE_BREAK
from insource.training.encoder_graph_precision import Graph

Arrays = Mapping[str, NDArray[Any]]
OPSET, IR = 17, 8
TINY = 1e-30


class SpecialistGraph(Graph):
    """Nodes that lead from `input_ids` (an encoder), `grams.words` and `grams.characters` (a linear model) to a score.

    `input_ids` is int32 (1, tokens). Where an encoder reads several windows, `all_ids` int32 (n,) holds those of all
    and `windows` int32 (w,) their lengths. `grams.words` and `grams.characters` are int32 (n,), the number of every
    known n-gram of the text, repeats included. Engines return the name of their probabilities, float64 (1, K).
    """

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[onnx.ValueInfoProto] = []
        self.opsets = [helper.make_opsetid("", OPSET)]

    def encoder(self, trunk: bytes, head: Arrays, info: TrunkInfo) -> str:
        """Add a trunk's graph and the head on its embedding; several windows are run one after the other and pooled."""
        model = onnx.ModelProto.FromString(trunk)
        self.opsets = list(model.opset_import)
        if info.windows == 1:
            self.nodes.extend(model.graph.node)
            self.weights.extend(model.graph.initializer)
            self.inputs.extend(model.graph.input)
            embedding = str(model.graph.output[0].name)
        else:
            embedding = self._pooled(self._each_window(model.graph), info)
        weights = self.weight("head.weights", head["weights"].astype(np.float32))
        product = self.node("MatMul", "head.product", [embedding, weights])
        return self._softmax("head", self._plus("head.sum", product, head["bias"].astype(np.float32)))

    def linear(self, arrays: Arrays, words: int) -> str:
        """Add the linear model, of whose n-grams the first `words` are words."""
        idf = self.weight("grams.idf", arrays["idf"].astype(np.float32))
        blocks = [self._block("grams.words", 0, idf), self._block("grams.characters", words, idf)]
        rows = self.node("Concat", "grams.rows", [row for row, _ in blocks], axis=0)
        values = self._unit("grams", self.node("Concat", "grams.values", [value for _, value in blocks], axis=0))
        table = self.weight("grams.weights", arrays["weights"].astype(np.float16))
        seen = self.node("Cast", "grams.seen", [self.node("Gather", "grams.half", [table, rows])], to=TensorProto.FLOAT)
        product = self.node("MatMul", "grams.product", [values, seen])
        return self._softmax("grams", self._plus("grams.sum", product, arrays["bias"].astype(np.float32)[None]))

    def two_tier(self, first: str, inner: SpecialistGraph, second: str, tiers: Arrays) -> str:
        """Add the encoder that `inner` holds; it runs only where the linear model's top probability is too low."""
        share = float(tiers["weight"][0])
        opinions = [
            inner._log("tiers.linear", first, encoder.NEVER, 1.0 - share),
            inner._log("tiers.encoder", second, encoder.NEVER, share),
        ]
        pooled = inner._softmax("tiers.pool", inner.node("Add", "tiers.both", opinions))
        kept = helper.make_node("Identity", [first], ["tiers.kept"])
        sure = helper.make_graph([kept], "sure", [], [_output("tiers.kept")])
        unsure = helper.make_graph(inner.nodes, "unsure", [], [_output(pooled)], inner.weights)
        self.inputs.extend(inner.inputs)
        self.opsets = inner.opsets
        top = self.node("ReduceMax", "tiers.top", [first], keepdims=0)
        low = self.node("Less", "tiers.low", [top, self._number("tiers.exit", float(tiers["exit_at"][0]))])
        return self.node("If", "tiers", [low], then_branch=unsure, else_branch=sure)

    def scored(self, probabilities: str, scorer: Arrays) -> bytes:
        """Add the scorer and return the model: `answer` int64 (1,), `score` float64 (1,), `probabilities` (1, K).

        The score is that of `risk.scores.Scorer.score_one`.
        """
        raw, first = self._raw(probabilities, scorer)
        size = self._plus("scorer.beyond", self.node("Abs", "scorer.size", [raw]), 1.0)
        softened = self._plus("scorer.soft", self.node("Div", "scorer.ratio", [raw, size]), 1.0)
        parts = [
            self._times("scorer.main", self._calibrated(raw, scorer), 1.0 - TIE_BREAK),
            self._times("scorer.tie", softened, TIE_BREAK / 2.0),
        ]
        self.node("Add", "score", parts)
        self.node("Identity", "answer", [first])
        self.node("Identity", "probabilities", [probabilities])
        outputs = [
            helper.make_tensor_value_info("answer", TensorProto.INT64, [1]),
            helper.make_tensor_value_info("score", TensorProto.DOUBLE, [1]),
            _output("probabilities"),
        ]
        graph = helper.make_graph(self.nodes, "specialist", self.inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=self.opsets, ir_version=IR, producer_name="insource")
        data: bytes = model.SerializeToString(deterministic=True)
        return data

    def _each_window(self, trunk: onnx.GraphProto) -> str:
        """Run the trunk once for each window; return the name of the embeddings (windows, 1, D)."""
        self.inputs += [
            helper.make_tensor_value_info(name, TensorProto.INT32, [name]) for name in ("all_ids", "windows")
        ]
        axis = self.weight("windows.axis", np.array([0], np.int64))
        lengths = self.node("Cast", "windows.lengths", ["windows"], to=TensorProto.INT64)
        stops = self.node("CumSum", "windows.stops", [lengths, self.weight("windows.zero", np.array(0, np.int64))])
        starts = self.node("Sub", "windows.starts", [stops, lengths])
        body = Graph()
        number = body.node("Unsqueeze", "window.number", ["window", axis])
        bounds = [body.node("Gather", f"window.{name}", [name, number]) for name in (starts, stops)]
        ids = body.node("Slice", "window.ids", ["all_ids", *bounds, axis])
        body.node("Unsqueeze", str(trunk.input[0].name), [ids, axis])
        body.node("Identity", "window.goes_on", ["window.more"])
        inputs = [
            helper.make_tensor_value_info("window", TensorProto.INT64, []),
            helper.make_tensor_value_info("window.more", TensorProto.BOOL, []),
        ]
        goes_on = helper.make_tensor_value_info("window.goes_on", TensorProto.BOOL, [])
        nodes, weights = [*body.nodes, *trunk.node], [*body.weights, *trunk.initializer]
        each = helper.make_graph(nodes, "window", inputs, [goes_on, *trunk.output], weights)
        times = self.node("Squeeze", "windows.times", [self.node("Shape", "windows.shape", ["windows"]), axis])
        return self.node("Loop", "windows.embeddings", [times, ""], body=each)

    def _pooled(self, embeddings: str, info: TrunkInfo) -> str:
        """Return the name of the windows' mean (1, D), as `Trunk` pools it: by tokens, blocks at their mean length."""
        first = self.weight("windows.first", np.array([0], np.int64))
        shape = self.weight("windows.blocks", np.array([-1, info.blocks, info.dimension // info.blocks], np.int64))
        rows = self.node("Reshape", "windows.rows", [embeddings, shape])
        counts = self.node("Cast", "windows.counts", ["windows"], to=TensorProto.FLOAT)
        shares = self.node("Div", "windows.shares", [counts, self.node("ReduceSum", "windows.total", [counts])])
        ends = self.weight("windows.ends", np.array([1, 2], np.int64))
        weights = self.node("Unsqueeze", "windows.weights", [shares, ends])
        mean = self._weighed("windows.mean", rows, weights, first)
        was = self._weighed("windows.was", self.node("ReduceL2", "windows.norms", [rows], axes=[2]), weights, first)
        length = self.node("ReduceL2", "windows.length", [mean], axes=[2])
        some = self.node(
            "Max", "windows.some", [length, self.weight("windows.tiny", np.array(WINDOW_TINY, np.float32))]
        )
        scaled = self.node("Mul", "windows.scaled", [mean, self.node("Div", "windows.scale", [was, some])])
        flat = self.weight("windows.flat", np.array([1, info.dimension], np.int64))
        return self.node("Reshape", "windows.pooled", [scaled, flat])

    def _weighed(self, name: str, values: str, weights: str, axis: str) -> str:
        """Return the name of the sum over the first axis of values times weights."""
        product = self.node("Mul", f"{name}.parts", [values, weights])
        return self.node("ReduceSum", name, [product, axis], keepdims=1)

    def _raw(self, probabilities: str, scorer: Arrays) -> tuple[str, str]:
        """Return the names of the ranking statistic (1,) and of the first answer (1,)."""
        slope, steepness, spread = scorer["score.weights"][:FEATURES].tolist()
        two = self.weight("scorer.two", np.array([2], np.int64))
        pair = self.node("TopK", "scorer.pair", [probabilities, two], outputs=2, axis=-1)
        top, second = self._column("scorer.top", pair, 0), self._column("scorer.second", pair, 1)
        first = self._column("scorer.first", f"{pair}.1", 0)
        bounds = [self._number("scorer.least", SURE), self._number("scorer.most", 1.0 - SURE)]
        up = self.node("Clip", "scorer.up", [top, *bounds])
        down = self._plus("scorer.down", self.node("Neg", "scorer.minus", [up]), 1.0)
        spoken = self._log("scorer.spoken", probabilities, NEVER, -spread)
        parts = self.node("Mul", "scorer.parts", [probabilities, spoken])
        last = self.weight("scorer.last", np.array([-1], np.int64))
        terms = [
            self._log("scorer.logit.up", up, NEVER, slope),
            self._log("scorer.logit.down", down, NEVER, -slope),
            self._log("scorer.ratio.up", top, NEVER, steepness),
            self._log("scorer.ratio.down", second, NEVER, -steepness),
            self.node("ReduceSum", "scorer.entropy", [parts, last], keepdims=0),
        ]
        shifts = scorer["score.answers"].astype(np.float64) + scorer["score.weights"][FEATURES]
        shift = self.node("Gather", "scorer.shift", [self.weight("scorer.shifts", shifts), first])
        return self.node("Sum", "scorer.raw", [*terms, shift]), first

    def _calibrated(self, raw: str, scorer: Arrays) -> str:
        """Return the name of the probability (1,) on Platt's curve or on Venn-Abers' steps."""
        if "score.platt" in scorer:
            slope, intercept = scorer["score.platt"].tolist()
            logit = self._plus("scorer.logit", self._times("scorer.slope", raw, -slope), -intercept)
            odds = self._plus("scorer.odds", self.node("Exp", "scorer.against", [logit]), 1.0)
            return self.node("Reciprocal", "scorer.curve", [odds])
        arrays = {name.rpartition(".")[2]: array.astype(np.float64) for name, array in scorer.items()}
        low, high = (self.weight(f"scorer.{name}", arrays[name]) for name in ("low", "high"))
        passed = [
            self.node("LessOrEqual", "scorer.reached", [low, raw]),
            self.node("Less", "scorer.passed", [high, raw]),
        ]
        counted = self.node("Cast", "scorer.counted", [self.node("Concat", "scorer.knots", passed, axis=0)],
                            to=TensorProto.INT64)  # fmt: skip
        place = self.node("ReduceSum", "scorer.place", [counted], keepdims=1)
        merged = arrays["p1"] / (1.0 - arrays["p0"] + arrays["p1"])
        return self.node("Gather", "scorer.step", [self.weight("scorer.steps", merged), place])

    def _block(self, name: str, start: int, idf: str) -> tuple[str, str]:
        """Return the names of a block's rows (n + 1,) and values, of length one; a row of value 0 stands first."""
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.INT32, [f"{name}.seen"]))
        wide = self.node("Cast", f"{name}.wide", [name], to=TensorProto.INT64)
        unique = self.node("Unique", f"{name}.unique", [wide], outputs=4)
        rows = self._plus(f"{name}.rows", unique, np.array([start], np.int64))
        counts = self.node("Cast", f"{name}.counts", [f"{unique}.3"], to=TensorProto.DOUBLE)
        exact = self._plus(f"{name}.exact", self.node("Log", f"{name}.log", [counts]), 1.0)
        dampened = self.node("Cast", f"{name}.dampened", [exact], to=TensorProto.FLOAT)
        weighed = self.node("Mul", f"{name}.weighed", [dampened, self.node("Gather", f"{name}.idf", [idf, rows])])
        none, zero = self.weight(f"{name}.none", np.array([0])), self.weight(f"{name}.zero", np.zeros(1, np.float32))
        padded = self.node("Concat", f"{name}.padded", [zero, weighed], axis=0)
        return self.node("Concat", f"{name}.all", [none, rows], axis=0), self._unit(name, padded)

    def _unit(self, name: str, values: str) -> str:
        """Return the name of a vector (n,) float32 scaled to length one; one of zeros stays."""
        length = self.node("ReduceL2", f"{name}.length", [values], axes=[0], keepdims=1)
        least = self.weight(f"{name}.least", np.array([TINY], np.float32))
        return self.node("Div", f"{name}.unit", [values, self.node("Max", f"{name}.some", [length, least])])

    def _softmax(self, name: str, logits: str) -> str:
        exact = self.node("Cast", f"{name}.logits", [logits], to=TensorProto.DOUBLE)
        return self.node("Softmax", f"{name}.probabilities", [exact], axis=-1)

    def _log(self, name: str, value: str, least: float, factor: float) -> str:
        """Return the name of factor * ln(max(value, least))."""
        some = self.node("Max", f"{name}.some", [value, self._number(f"{name}.least", least)])
        return self._times(name, self.node("Log", f"{name}.log", [some]), factor)

    def _column(self, name: str, values: str, place: int) -> str:
        """Return the name of one column: from (1, n) to (1,)."""
        return self.node("Gather", name, [values, self.weight(f"{name}.place", np.array(place, np.int64))], axis=1)

    def _times(self, name: str, value: str, factor: float) -> str:
        return self.node("Mul", name, [value, self._number(f"{name}.factor", factor)])

    def _plus(self, name: str, value: str, added: NDArray[Any] | float) -> str:
        given = (
            self._number(f"{name}.added", added) if isinstance(added, float) else self.weight(f"{name}.added", added)
        )
        return self.node("Add", name, [value, given])

    def _number(self, name: str, value: float) -> str:
        """Add a constant in double precision and return its name."""
        return self.weight(name, np.array(value, np.float64))


def _output(name: str) -> onnx.ValueInfoProto:
    """Describe probabilities as an output."""
    return helper.make_tensor_value_info(name, TensorProto.DOUBLE, [1, "answers"])
