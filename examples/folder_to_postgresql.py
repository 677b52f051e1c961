"""From a folder to a server: the same collection, found by the same question, in both.

pip install "nearfield[postgresql]"
python examples/folder_to_postgresql.py ./data postgresql://user@host/database
"""

import sys

import nearfield
from nearfield.copying import copy

MANUAL = [
    "Fill the kettle to the mark and boil the water.",
    "Let black tea steep for four minutes, then add the milk.",
    "Descale the kettle with vinegar once a month.",
]
QUESTION = "How do I get rid of limescale?"


def ask(url: str) -> list[tuple[str, float]]:
    with nearfield.open(url, "manual", create=False) as manual:
        return [(hit.document.text, round(hit.score, 4)) for hit in manual.search(QUESTION, k=2)]


def main(folder: str, server: str) -> None:
    with nearfield.open(folder, "manual") as manual:
        manual.upsert([nearfield.Document(text, id=f"page {i}") for i, text in enumerate(MANUAL)])
    report = copy(nearfield.connect(folder), nearfield.connect(server), "manual")
    print(f"{report.documents} documents, {report.written} written, {report.compared} compared")
    here, there = ask(folder), ask(server)
    print(f"{QUESTION} {there[0][0]}")
    if here != there:
        sys.exit(f"the answers differ: {here} and {there}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
