"""Two organizations train one model on what each knows about the same customers.

Everything runs in this process: encrypted, but without networks or certificates. The last line writes the files with
which each organization would run its own process instead.
"""

import numpy as np
import polars as pl

import vfl

# Two tables about the same 600 customers, in different orders. Only the bank knows who defaulted.
rng = np.random.default_rng(0)
ids = [f"customer-{number:04d}" for number in range(600)]
x = rng.normal(size=(600, 6))
score = x @ np.array([1.0, -1.0, 0.5, 2.0, -1.0, 0.7])
bank_df = pl.DataFrame(
    {"id": ids, "income": x[:, 0], "debt": x[:, 1], "age": x[:, 2], "default": (score > 0).astype(int)}
)
telco_df = pl.DataFrame({"id": ids, "calls": x[:, 3], "roaming": x[:, 4], "late": x[:, 5]}).sample(
    fraction=1.0, seed=1, shuffle=True
)

bank = vfl.Party("bank", vfl.Table(bank_df, id="id", label="default"))
telco = vfl.Party("telco", vfl.Table(telco_df, id="id"))
job = vfl.Job("credit", task="binary", seed=3)

run = vfl.simulate(job, active=bank, passive=[telco])
print(run)
print(f"AUC on rows nobody trained on: {run.test['auc']:.3f}; the telco sent {run.bytes_sent['telco'] / 1e6:.1f} MB")

files = vfl.write_federation("federation", job, active=bank, passive=[telco])
print("to run it in processes of their own:", *files.commands, sep="\n  ")
