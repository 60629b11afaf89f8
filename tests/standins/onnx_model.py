"""A tiny sentence-transformers folder: 8 words, 4 dimensions, made anew for each test."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ("[UNK]", "backups", "passwords", "kept", "long", "visitors", "badges", "days")
VECTORS = np.array(
    [
        [0, 0, 0, 0],
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0.5, 0, 0.5, 0],
        [0, 0.5, 0.5, 0],
        [0, 0, 0, 1],
        [0, 0, -1, 1],
        [1, 0, 1, 0],
    ],
    dtype=np.float32,
)


def make_folder(folder: Path, *, pooling: str = "mean", max_length: int = 16) -> Path:
    """Write the model, its tokenizer and its configuration; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])
    mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "tokens"])
    hidden = helper.make_tensor_value_info(
        "last_hidden_state", TensorProto.FLOAT, ["batch", "tokens", 4]
    )
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "tiny",
        [ids, mask],
        [hidden],
        [numpy_helper.from_array(VECTORS, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    tokenizer = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(kinds)
    ]
    write(folder / "modules.json", modules)
    poolings = {f"pooling_mode_{name}": name.startswith(pooling) for name in
                ("cls_token", "mean_tokens", "max_tokens")}  # fmt: skip
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 4, **poolings})
    write(folder / "sentence_bert_config.json", {"max_seq_length": max_length})
    return folder


def write(path: Path, value: object) -> None:
    """Write a value as JSON."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
