"""Write an experiment's options.yaml from the dataclass in its options.py.

The control plane reads that file, so that it checks a study without importing a trainer.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import yaml

from experiments.runtime.experiment import experiment_names, find_experiment
from experiments.runtime.options import Leaf, OptimiserOptions, RuntimeOptions, leaves
from merge.errors import PapergridError, UsageError
from merge.records.options import UnfitError
from merge.storage.json_files import Json

_HEADER = "Generated from options.py by `python -m experiments.runtime.write_options`: edit that."


def main(words: Sequence[str] | None = None) -> int:
    """Write the files of the named experiments; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.runtime.write_options", description=__doc__
    )
    parser.add_argument(
        "experiments",
        nargs="*",
        metavar="NAME_OR_FOLDER",
        help="an experiment of papergrid, or a folder with a slash: ./blobs (default: all of "
        "papergrid's)",
    )
    names = parser.parse_args(words).experiments or experiment_names()
    try:
        for name in names:
            experiment = find_experiment(name, Path.cwd())
            text = checked_yaml(experiment.options_type, str(experiment.folder / "options.py"))
            (experiment.folder / "options.yaml").write_text(text, encoding="utf-8")
    except PapergridError as error:
        print(f"write_options: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def checked_yaml(kind: type, path: str) -> str:
    """`options_yaml(kind)`. UsageError with everything in the file `path` that must be mended."""
    if "torch" in sys.modules:
        raise UsageError(
            f"{path} imports torch: options are read where torch is not installed; import it in "
            "model.py or task.py"
        )
    try:
        found = leaves(kind)
    except TypeError as error:
        raise UsageError(f"{path}: {error}") from error
    problems = [*_missing_groups(kind), *_problems(found)]
    if problems:
        raise UsageError("\n  ".join((f"{path}: {len(problems)} to mend", *problems)))
    return options_yaml(kind)


def options_yaml(kind: type) -> str:
    """The text of options.yaml for the options dataclass `kind`."""
    about = inspect.getdoc(sys.modules[kind.__module__]) or ""
    comment = textwrap.indent(f"{about}\n\n{_HEADER}", "# ", lambda _line: True)
    helps = {owner: _field_docs(owner) for owner in {leaf.owner for leaf in leaves(kind)}}
    entries = (_entry(leaf, helps[leaf.owner].get(leaf.field, "")) for leaf in leaves(kind))
    lines = (line.rstrip() for line in comment.splitlines())
    return "\n".join(lines) + "\n\n" + "".join(entries)


def _missing_groups(kind: type) -> Iterator[str]:
    for name, group in (("runtime", RuntimeOptions), ("optimiser", OptimiserOptions)):
        if not isinstance(getattr(kind(), name, None), group):
            yield f"no group {name!r}: add `{name}: {group.__name__} = {group.__name__}()`"


def _problems(found: Iterable[Leaf]) -> Iterator[str]:
    for leaf in found:
        if not _field_docs(leaf.owner).get(leaf.field):
            yield f"{leaf.name}: write a docstring under the field: it is the option's help"
        default = list(leaf.default) if isinstance(leaf.default, tuple) else leaf.default
        try:
            leaf.option.fitted(default)
        except UnfitError as error:
            yield f"{leaf.name}: its default {error}"


def _entry(leaf: Leaf, text: str) -> str:
    option = leaf.option
    default = list(leaf.default) if isinstance(leaf.default, tuple) else leaf.default
    entry: dict[str, Json] = {"type": option.type, "default": default}  # type: ignore[dict-item]
    if option.choices:
        entry["choices"] = list(option.choices)
    for key, limit in (("min", option.minimum), ("max", option.maximum)):
        if limit is not None:
            entry[key] = limit
    if not option.decides_numbers:
        entry["decides_numbers"] = False
    if option.is_test_setting:
        entry["test_setting"] = True
    entry["help"] = text
    body = "".join(f"  {key}: {_inline(value)}\n" for key, value in entry.items())
    return f"{leaf.name}:\n{body}"


def _inline(value: Json) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _field_docs(owner: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, on one line."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(tree, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, doc in zip(tree.body, tree.body[1:], strict=False):
        is_doc = isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant)
        if is_doc and isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            docs[field.target.id] = " ".join(str(doc.value.value).split())  # type: ignore[attr-defined]
    return docs


if __name__ == "__main__":
    sys.exit(main())
