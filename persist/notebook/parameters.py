"""The parameters that papermill injects into a notebook."""

import ast

from persist.cell import Cell


def check_parameters(inputs: list[str], known) -> None:
    """Raise ValueError, by name, for a parameter that papermill injected but the notebook does not have (of which
    papermill only warns). inputs: the sources of the cells run so far, IPython's ``In``."""
    for source in inputs:
        if source.startswith("# Parameters"):
            assignments = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
            unknown = [target.id for node in assignments for target in node.targets if target.id not in known]
            if unknown:
                raise ValueError(f"unknown parameter {unknown[0]!r}: this notebook has {', '.join(known)}")


def cell_of(variables: dict, *, others=()) -> Cell:
    """The Cell of a notebook whose variables (``globals()``) have the names of its fields; others: its parameters that
    are no fields. Raises ValueError as Cell does, and for a parameter that papermill injected but nobody reads."""
    check_parameters(variables.get("In", []), known=[*Cell.fields(), *others])
    return Cell(**{name: variables[name] for name in Cell.fields()})
