"""From a folder to a cluster: the same code, and the same hits, wherever the collection is kept.

pip install "nearfield[postgresql,dask]"
python examples/folder_to_cluster.py docs ./data \
    postgresql://user@host/database postgresql+sharded://user@host1,host2,host3/database \
    --workers dask://scheduler:8786

The files are ingested into the first database and the collection is copied to each of the others,
of any kind. Then --workers, a number of processes or a Dask cluster, ingest the same files into
the last one by themselves. After each step the hits are compared.
"""

import argparse
import sys

import nearfield
from nearfield.copying import copy
from nearfield.ingest import sync

Hits = list[tuple[str, float]]


def ingest(url: str, name: str, files: str, workers: str | None = None) -> None:
    with nearfield.open(url, name) as manual:
        report = sync(manual, files, prune=True, workers=workers)
        if not report.ok:
            sys.exit(f"not everything could be read: {report.failures}")
        rate = f"{report.chunks_per_s:,.0f} a second"
        print(f"{nearfield.connect(url)}: {report.chunks_written} chunks written, {rate}")


def ask(url: str, name: str, question: str) -> Hits:
    with nearfield.open(url, name, create=False) as manual:
        return [(hit.id, round(hit.score, 4)) for hit in manual.search(question, k=5)]


def check(url: str, name: str, question: str, expected: Hits) -> None:
    if (found := ask(url, name, question)) != expected:
        sys.exit(f"the hits differ: {found} in place of {expected}")
    print(f"{nearfield.connect(url)}: the same {len(found)} hits")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("files", help="a folder of files to ingest")
    parser.add_argument("urls", nargs="+", metavar="url", help="databases: a folder, a server, …")
    parser.add_argument("--workers", help="a number of processes, or dask://scheduler:8786")
    parser.add_argument("--ask", default="How do I begin?", metavar="QUESTION")
    arguments = parser.parse_args()

    first, *others = arguments.urls
    ingest(first, "manual", arguments.files)
    expected = ask(first, "manual", arguments.ask)
    for url in others:
        with nearfield.connect(first) as here, nearfield.connect(url) as there:
            report = copy(here, there, "manual")
        print(f"{there}: {report.documents} chunks, {report.compared} read back and compared")
        check(url, "manual", arguments.ask, expected)
    if arguments.workers:
        ingest(arguments.urls[-1], "manual-by-workers", arguments.files, arguments.workers)
        check(arguments.urls[-1], "manual-by-workers", arguments.ask, expected)


if __name__ == "__main__":
    main()
