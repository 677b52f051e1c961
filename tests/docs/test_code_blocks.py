"""Every code block in the README and the docs runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = "<!-- command:"  # what follows is run by .ci/run in environments of its own
SKIP = "<!-- not run:"  # with the reason
NEEDS = {
    "embedders.md": ("openai", "PIL", "tenacity"),
    "README.md": ("langchain_core", "llama_index.core"),
    "langchain.md": ("langchain_core",),
    "llama_index.md": ("llama_index.core",),
    "quality.md": ("sklearn", "plotly"),
}


def code_blocks(page: Path) -> list[tuple[str, str]]:
    """Return (language, code) of each fenced block that is to be run."""
    blocks, comment = [], ""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            comment = token.content.strip()
        elif token.type == "fence":
            if not comment.startswith((COMMAND, SKIP)):
                blocks.append((token.info.strip(), token.content))
            comment = ""
    return blocks


def test_the_readme_has_code_of_both_kinds():
    languages = {language for language, _ in code_blocks(ROOT / "README.md")}
    assert {"python", "bash"} <= languages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path):
    for package in NEEDS.get(page.name, ()):
        pytest.importorskip(package, reason=f"{package} is not installed")
    blocks = code_blocks(page)
    folder = tmp_path / "docs"  # what the examples ingest
    folder.mkdir()
    for source in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        (folder / source.name).write_bytes(source.read_bytes())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "NO_COLOR": "1"}

    for language in ("bash", "python"):
        code = "\n".join(code for kind, code in blocks if kind == language)
        if not code:
            continue
        command = (
            ["bash", "-euo", "pipefail", "-c", code]
            if language == "bash"
            else [sys.executable, "-c", code]
        )
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"


def test_the_ci_script_finds_the_commands_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for name in ("demo", "tests"):
        assert f"<!-- command: {name} -->\n```bash\n" in text
        assert f"readme_command {name}" in script
