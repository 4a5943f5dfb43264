"""Writes combat.json: ComBat by neuroCombat 0.2.12 (with numpy 1.26.4), whose iteration stops at 1e-4, taken to 1e-14.

Made-up data: three centres, of which B is shifted and spread, C narrowed. Run it in an environment of its own.
"""

import contextlib
import io
import json
import sys

import numpy as np
import pandas as pd
from neuroCombat import neuroCombat

library = sys.modules["neuroCombat.neuroCombat"]
solve = library.it_sol
library.it_sol = lambda *values, **options: solve(*values, **{**options, "conv": 1e-14})

draw = np.random.default_rng(7)
centre = np.repeat(["A", "B", "C"], [10, 8, 6])
data = draw.normal(size=(24, 8)) * draw.uniform(0.5, 20, 8) + draw.uniform(-50, 50, 8)
data[centre == "B"] = data[centre == "B"] * draw.uniform(1.2, 1.8, 8) + draw.normal(4, 3, 8)
data[centre == "C"] = data[centre == "C"] * draw.uniform(0.5, 0.9, 8) - 2
data = data.round(3)
with contextlib.redirect_stdout(io.StringIO()):
    made = neuroCombat(dat=data.T, covars=pd.DataFrame({"centre": centre}), batch_col="centre")
shift, variance = (dict(zip("ABC", made["estimates"][k].tolist(), strict=True)) for k in ("gamma.star", "delta.star"))
content = {"centre": centre.tolist(), "features": data.tolist(), "shift": shift, "variance": variance}
print(json.dumps({**content, "harmonised": made["data"].T.tolist()}))
