"""What two runs of one study have in common, byte for byte."""

import json
from fnmatch import fnmatchcase

# What says when, how long and by how much memory a run was made: the only files that may differ from run to run.
# Of executed notebooks the results of cells are compared, not what is printed while they work, which tells the time
# left; two of them measure time or show what was measured.
TIMES_AND_LOGS = (
    *("logs/*", ".chain/*", "run.json", "report.html"),
    *("notebooks/02_augmentation.ipynb", "notebooks/12_paper_and_run.ipynb"),
)


def contents(run):
    """Yield name and content of each file that is to be the same in all runs, without the place of the run."""
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        name, content = path.relative_to(run).as_posix(), path.read_bytes()
        if any(fnmatchcase(name, pattern) for pattern in TIMES_AND_LOGS):
            continue
        if path.suffix == ".ipynb":
            cells = json.loads(content)["cells"]
            results = [o["data"].get("text/plain") for c in cells for o in c.get("outputs", []) if "data" in o]
            content = json.dumps([[cell["source"] for cell in cells], results]).encode()
        yield name, content.replace(str(run).encode(), b"RUN")
