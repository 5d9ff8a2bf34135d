"""`python -m experiments.runtime.write_options [NAME_OR_FOLDER]...`: write options.yaml anew.

The control plane reads that file, so that it checks a study without importing a trainer. Without a
name, those of all experiments in this package are written.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import yaml

from experiments.runtime.experiment import EXPERIMENTS, find_experiment
from experiments.runtime.options import Leaf, leaves
from merge.storage.json_files import Json

_HEADER = "Generated from options.py by `python -m experiments.runtime.write_options`: edit that."


def main(names: Sequence[str]) -> None:
    """Write the files of the experiments `names`, of all of them if there are none."""
    known = [path.parent.name for path in sorted(EXPERIMENTS.glob("*/options.py"))]
    for name in names or [name for name in known if name != "runtime"]:
        experiment = find_experiment(name, Path.cwd())
        (experiment.folder / "options.yaml").write_text(options_yaml(experiment.options_type))


def options_yaml(kind: type) -> str:
    """The text of options.yaml for the options dataclass `kind`."""
    about = inspect.getdoc(sys.modules[kind.__module__]) or ""
    comment = textwrap.indent(f"{about}\n\n{_HEADER}", "# ", lambda _line: True)
    helps = {owner: _field_docs(owner) for owner in {leaf.owner for leaf in leaves(kind)}}
    entries = (_entry(leaf, helps[leaf.owner].get(leaf.field, "")) for leaf in leaves(kind))
    lines = (line.rstrip() for line in comment.splitlines())
    return "\n".join(lines) + "\n\n" + "".join(entries)


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
    main(sys.argv[1:])
