"""The public API is exactly this. A change here is a change for every user: it needs a line in CHANGELOG.md."""

import inspect
import subprocess
import sys

import vfl

EXPORTS = {
    "BottomInputs": ["numeric_width", "cardinalities", "indicated", "names"],
    "Callback": [],
    "CheckpointDone": ["step"],
    "Epoch": ["epoch", "epochs", "record"],
    "EvaluationDone": ["split", "epoch", "metrics"],
    "FederationFiles": ["folder", "parties"],
    "Interrupted": ["reason", "where"],
    "Job": ["name", "task", "seed", "classes", "loss", "class_weights", "widths", "model", "training", "interaction",
            "privacy", "split", "split_by", "ids", "ring", "timeouts", "checkpoints"],
    "JointModel": ["active", "parts", "bias", "top", "encoding", "task", "ids"],
    "Party": ["name", "table", "bottom", "policy", "optimizer", "private_seed", "device", "threads", "model_threads"],
    "Ready": ["rows", "train_rows", "steps_per_epoch", "gradient_receivers", "steps_done"],
    "Run": ["result", "model"],
    "Step": ["step", "batch", "rows", "loss", "seconds", "bytes_sent"],
    "Table": ["source", "id", "label", "columns", "features", "drop", "positive_label", "classes", "rows_without_label",
              "weight", "time", "missing", "names", "format", "reading"],
    "Trial": ["settings", "run", "error"],
    "VerticalClassifier": ["id", "label", "time", "bottom", "widths", "model", "training", "interaction", "privacy",
                           "split", "policy", "seed"],
    "VerticalRegressor": ["id", "label", "time", "bottom", "widths", "model", "training", "interaction", "privacy",
                          "split", "policy", "seed"],
    "VflError": ["summary", "detail", "remedy"],
    "runs": ["database"],
    "serve": ["parties", "keep_serving", "callbacks"],
    "serve_async": ["parties", "keep_serving", "callbacks", "stopping"],
    "simulate": ["job", "active", "passive", "output", "callbacks", "party_callbacks"],
    "simulate_async": ["job", "active", "passive", "output", "callbacks", "party_callbacks"],
    "sweep": ["job", "active", "passive", "over", "done"],
    "train": ["job", "coordinator", "resume", "callbacks"],
    "train_async": ["job", "coordinator", "resume", "callbacks", "stopping"],
    "write_federation": ["folder", "job", "active", "passive", "name"],
}  # fmt: skip
METHODS = {
    "Callback": ["on_checkpoint", "on_epoch", "on_evaluation", "on_event", "on_interruption", "on_ready", "on_step"],
    "JointModel": ["classes", "load", "predict", "predict_proba"],
    "Run": ["alone", "bytes_sent", "history", "name", "plot", "recoveries", "rows", "summary", "test"],
    "VerticalClassifier": ["classes_", "fit", "get_params", "predict", "predict_proba", "score", "set_params"],
    "VerticalRegressor": ["fit", "get_params", "predict", "score", "set_params"],
}


def test_the_exports_are_these_and_take_these_arguments():
    assert set(vfl.__all__) == {*EXPORTS, "__version__"}
    for name, expected in EXPORTS.items():
        parameters = inspect.signature(getattr(vfl, name)).parameters
        assert [parameter for parameter in parameters if parameter != "self"] == expected, name


def test_their_public_methods_are_these():
    for name, expected in METHODS.items():
        kind = getattr(vfl, name)
        members = {member for base in kind.__mro__[:-1] for member in vars(base) if not member.startswith("_")}
        assert sorted(members) == expected, name


def test_everything_exported_is_documented():
    for name in EXPORTS:
        assert inspect.getdoc(getattr(vfl, name)), name


def test_importing_takes_no_library_and_changes_nothing():
    program = (
        "import os, signal, sys, logging; before = dict(os.environ), signal.getsignal(signal.SIGINT)\n"
        "import vfl\n"
        "assert (dict(os.environ), signal.getsignal(signal.SIGINT)) == before\n"
        "assert not {'torch', 'grpc', 'polars', 'numpy', 'structlog'} & set(sys.modules), sys.modules.keys()\n"
        "assert not logging.getLogger().handlers\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_name_that_is_not_there_is_an_attribute_error():
    assert not hasattr(vfl, "federate")
    assert set(vfl.__all__) <= set(dir(vfl))
