"""One word per thing: code, messages and documents avoid the words that CONTRIBUTING.md lists."""

import ast
import io
import re
import tokenize

import pytest
from helpers.paths import ROOT

AVOID = {  # pattern -> what to write
    r"photo(graph)?s?": "image",
    r"pictures?": "image",
    r"drawn|drawing|painted|painter": "synthetic, generated, rendered, plotted",
    r"canar(y|ies)": "sanity check",
    r"ceilings?": "upper bound",
    r"twins?": "second view",
    r"verbs?": "command",
    r"exhibits?": "figure, table, section",
    r"nobody|somebody|whoever": "name the thing",
    r"not itself|not themselves|themselves": "degenerate",
    r"flatter\w*|cheats?|honest(y|ly)?|pays for|riddles?": "a plain statement",
    r"as it were|whose it is": "a plain statement",
    r"warm process": "fork server",
}
WORDS = re.compile(rf"\b({'|'.join(AVOID)})\b", re.IGNORECASE)
CODE = [*sorted((ROOT / "clipdr").rglob("*.py")), *sorted((ROOT / "benchmarks").glob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TEXTS = [
    *sorted((ROOT / "workflow").rglob("*.smk")),
    *sorted((ROOT / "workflow").rglob("*.yaml")),
    *sorted((ROOT / "workflow").rglob("*.rst")),
    ROOT / "workflow" / "Snakefile",
    ROOT / "config.yaml",
    ROOT / "dvc.yaml",
    ROOT / "Makefile",
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "data").glob("*.md")),
    *sorted((ROOT / "results").glob("*.md")),
    *sorted((ROOT / "benchmarks").glob("*.md")),
    *sorted((ROOT / "clipdr").rglob("*.md")),
    *sorted((ROOT / "clipdr").rglob("*.html")),
]


def comments(source: str):
    """Yield (line, text) of comments."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def docstrings(source: str):
    """Yield (line, text) of docstrings."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text


def strings(source: str):
    """Yield (line, text) of strings with a space: docstrings, messages, help."""
    for node in ast.walk(ast.parse(source)):
        text = node.value if isinstance(node, ast.Constant) else None
        # the templates of CLIP's prompts, with "{}", are data
        if isinstance(text, str) and " " in text and "{}" not in text:
            yield node.lineno, text


def findings(path, texts):
    for line, text in texts:
        # names in code style, paths and keys are identifiers, not prose
        plain = re.sub(r"`[^`\n]*`|\S*[/_{}=]\S*", " ", text)
        for match in WORDS.finditer(plain):
            yield f"{path.relative_to(ROOT)}:{line}: {match[0]!r}"


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_comments_and_strings_use_the_words_of_the_glossary(path):
    source = path.read_text()
    assert not list(findings(path, [*comments(source), *strings(source)]))


def test_comments_and_docstrings_of_tests_use_the_words_of_the_glossary():
    """Other strings of tests are data."""
    for path in TESTS:
        source = path.read_text()
        assert not list(findings(path, [*comments(source), *docstrings(source)]))


def test_names_of_tests_are_short_and_without_an_article():
    """Names are test_<thing>_<condition>_<result> in words of the glossary."""
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                assert len(node.name) <= 70, f"{path}: {node.name}"
                assert not re.match(r"test_(a|an|the)_", node.name), f"{path}: {node.name}"
                assert not WORDS.search(node.name.replace("_", " ")), f"{path}: {node.name}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents_use_the_words_of_the_glossary(path):
    assert not list(findings(path, enumerate(path.read_text().splitlines(), 1)))


def test_search_finds_a_word_to_avoid_and_no_identifier():
    lines = [(1, "A photograph is drawn."), (2, "see photo_path or `picture`"), (3, "an image")]
    assert [text.split(":")[1] for text in findings(ROOT / "x.py", lines)] == ["1", "1"]


def test_docstring_begins_with_a_noun_or_an_imperative():
    """No module begins with "What", "Whether", "How" or "Which" as a whole sentence."""
    for path in CODE:
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert not re.match(r"(What|Whether|How|Which|Where|Who)\b", docstring), path
