"""The parameters that papermill injects into a notebook."""

import ast


def check_parameters(inputs: list[str], known) -> None:
    """Raise ValueError, by name, for a parameter that papermill injected but the notebook does not have: papermill
    itself only warns of it.

    inputs: the sources of the cells run so far (IPython's ``In``); papermill's begins with "# Parameters".
    """
    for source in inputs:
        if source.startswith("# Parameters"):
            names = [target.id for node in ast.parse(source).body if isinstance(node, ast.Assign) for target in node.targets]
            unknown = [name for name in names if name not in known]
            if unknown:
                raise ValueError(f"unknown parameter {unknown[0]!r}: this notebook has {', '.join(known)}")
