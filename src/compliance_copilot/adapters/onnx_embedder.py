"""Any sentence-transformers model as an ONNX folder, run here by onnxruntime.

Read from the folder: `model.onnx` (or `onnx/model.onnx`), `tokenizer.json`, and, where they are,
`modules.json`, the pooling's `config.json`, `sentence_bert_config.json`, `config.json`. Nothing is
downloaded.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import DeadlineExceeded, SetupError
from compliance_copilot.rag.ports import Embedded, Vectors

_BATCH_TOKENS = 8_192
_BATCH_TEXTS = 64
_DEFAULT_LENGTH = 512
_POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What a folder says about its model."""

    model: Path
    tokenizer: Path
    pooling: str = "mean"
    max_length: int = _DEFAULT_LENGTH


def read_folder(folder: Path) -> ModelFolder:
    """Return what is in a model's folder. Raises SetupError naming what is missing or not ours."""
    model = next((p for p in _places(folder, "model.onnx") if p.is_file()), None)
    tokenizer = folder / "tokenizer.json"
    if model is None or not tokenizer.is_file():
        missing = "model.onnx" if model is None else "tokenizer.json"
        raise SetupError(f"ONNX_MODEL_DIR: there is no {missing} in {folder}; export one there.")
    return ModelFolder(model, tokenizer, _pooling(folder), _max_length(folder))


def _places(folder: Path, name: str) -> tuple[Path, ...]:
    return folder / name, folder / "onnx" / name


def _pooling(folder: Path) -> str:
    place = folder / "1_Pooling"
    for module in _json(folder / "modules.json", []):
        kind = module["type"].rsplit(".", 1)[-1]
        if kind == "Pooling":
            place = folder / module["path"]
        elif kind not in ("Transformer", "Normalize"):
            raise SetupError(
                f"ONNX_MODEL_DIR: a {kind} layer is not run here; choose a model"
                " of a transformer and a pooling."
            )
    similarity = _json(folder / "config_sentence_transformers.json", {}).get("similarity_fn_name")
    if similarity not in (None, "cosine") and not _normalises(folder):
        raise SetupError(
            f"ONNX_MODEL_DIR: the model compares by {similarity!r}, vectors here are"
            " of length 1; choose a model that compares by cosine."
        )
    return _pooling_of(_json(place / "config.json", {}))


def _normalises(folder: Path) -> bool:
    modules = _json(folder / "modules.json", [])
    return any(module["type"].endswith(".Normalize") for module in modules)


def _pooling_of(config: dict[str, Any]) -> str:
    named = config.get("pooling_mode")
    known = (
        [named] if isinstance(named, str) else [p for k, p in _POOLINGS.items() if config.get(k)]
    )
    others = [k for k, v in config.items() if k.startswith("pooling_mode_") and v is True]
    if len(others) > 1 or (others and not known) or set(known) - set(_POOLINGS.values()):
        raise SetupError(
            f"ONNX_MODEL_DIR: pooling {others or known} is not known here; mean, cls and max are."
        )
    return known[0] if known else "mean"


def _max_length(folder: Path) -> int:
    for name, field in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
        ("config.json", "max_position_embeddings"),
    ):
        length = _json(folder / name, {}).get(field)
        if isinstance(length, int) and 0 < length <= 100_000:  # some write 10^30 for "no limit"
            return length
    return _DEFAULT_LENGTH


def _json(path: Path, default: Any) -> Any:
    if not path.is_file():
        return default
    try:
        return orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise SetupError(f"ONNX_MODEL_DIR: {path} is no JSON ({error}).") from error


class OnnxEmbedder:
    """Token vectors of a transformer, pooled as the model's folder says, at length 1."""

    provider = "local"

    def __init__(self, folder: Path) -> None:
        self._folder = read_folder(folder)
        self._label = folder.resolve().name

    @cached_property
    def name(self) -> str:
        """Name the model by its folder and the content of its files: other weights, other name."""
        digests = []
        for path in (self._folder.model, self._folder.tokenizer):
            with path.open("rb") as file:
                digests.append(file_digest(file, "sha256").hexdigest()[:6])
        return f"onnx-{self._label}-{'-'.join(digests)}-{self._folder.pooling}"

    @cached_property
    def dimensions(self) -> int:
        """Length of a vector, seen on a first text."""
        return int(self._run([self._tokenizer.encode("a")]).shape[1])

    def warm(self) -> None:
        """Load the model now. Raises SetupError when its files cannot be read."""
        try:
            _ = self.name, self.dimensions
        except Exception as error:
            words = " ".join(str(error).split())[:200]
            raise SetupError(f"ONNX_MODEL_DIR: the model cannot be run ({words}).") from error

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> Embedded:
        """Return unit vectors of shape (texts, dimensions); a text without tokens gives zeros."""
        encoded = await asyncio.to_thread(self._tokenized, texts)
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for places in _by_length([len(one.ids) for one in encoded]):
            if deadline.passed:
                raise DeadlineExceeded
            batch = [encoded[place] for place in places]
            vectors[places] = await asyncio.to_thread(self._run, batch)
        return Embedded(vectors)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._folder.tokenizer))
        tokenizer.enable_truncation(self._folder.max_length)
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        return onnxruntime.InferenceSession(
            str(self._folder.model), providers=["CPUExecutionProvider"]
        )

    def _tokenized(self, texts: Sequence[str]) -> list[Any]:
        _ = self.dimensions  # loads the model where nobody waits for it
        return list(self._tokenizer.encode_batch(list(texts)))

    def _run(self, batch: Sequence[Any]) -> Vectors:
        """Return unit vectors of texts of about the same length."""
        longest = max(1, *(len(one.ids) for one in batch))
        ids = np.zeros((len(batch), longest), dtype=np.int64)
        mask = np.zeros((len(batch), longest), dtype=np.int64)
        for row, one in enumerate(batch):
            ids[row, : len(one.ids)] = one.ids
            mask[row, : len(one.ids)] = 1
        known = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feeds = {entry.name: known[entry.name] for entry in self._session.get_inputs()}
        hidden = self._session.run(None, feeds)[0].astype(np.float32)
        pooled = _pooled(hidden, mask.astype(np.float32), self._folder.pooling)
        norms = np.linalg.norm(pooled, axis=1, keepdims=True)
        return (pooled / np.where(norms == 0, 1, norms)).astype(np.float32)


def _pooled(hidden: Vectors, mask: Vectors, pooling: str) -> Vectors:
    """Pool token vectors of shape (texts, tokens, dimensions); padding counts nowhere."""
    if hidden.ndim == 2:
        return hidden  # the graph has pooled already
    if pooling == "cls":
        first: Vectors = hidden[:, 0] * mask[:, :1]
        return first
    wide = mask[:, :, None]
    if pooling == "max":
        highest: Vectors = np.where(wide > 0, hidden, -np.inf).max(axis=1)
        return np.where(np.isfinite(highest), highest, 0).astype(np.float32)
    mean: Vectors = (hidden * wide).sum(axis=1) / np.maximum(wide.sum(axis=1), 1)
    return mean


def _by_length(lengths: Sequence[int]) -> list[NDArray[np.int64]]:
    """Return the places of texts in batches of like length, so that little is padding."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    batches: list[NDArray[np.int64]] = []
    start = 0
    for at in range(1, len(order) + 1):
        full = at - start == _BATCH_TEXTS
        if at == len(order) or full or (at + 1 - start) * lengths[order[at]] > _BATCH_TOKENS:
            batches.append(order[start:at])
            start = at
    return batches
