"""A party as an object, and its process inside a host program."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from vfl.api.blocking import run_blocking
from vfl.api.table import Table
from vfl.configuration.federation import FederationConfig
from vfl.configuration.toml_files import load_toml, validated
from vfl.errors import ConfigError, VflError
from vfl.he.parameters import Parameters
from vfl.job.callbacks import Callback
from vfl.job.config import JobConfig
from vfl.models.config import CustomBottom
from vfl.models.custom import load_factory
from vfl.party.config import GivenInPython, PartyConfig, PartySetup, load_party
from vfl.party.process import serve_party
from vfl.party.service.stopping import StopReason

Bottom = str | Mapping[str, Any] | Callable[..., nn.Module]
"""A built-in bottom's name, ``module:callable``, the content of ``[bottom]``, or a class or callable that makes one."""


class Party:
    """One organization's side: its table, its bottom model, its policy.

    Args:
        name: in lower case, as a part of a DNS name.
        table: with a label at the active party, without one at passive parties.
        bottom: ``"encodings"`` (frozen, a passive party's default), ``"mlp"`` (trained, the active party's default),
            ``"identity"``, ``"module:callable"``, a table of options such as ``{"kind": "mlp", "hidden": [64]}``, or a
            class or callable ``bottom(inputs: vfl.BottomInputs, width: int)`` that returns a ``torch.nn.Module``. What
            a passive party receives to train its bottom reveals labels: the active party's policy has to allow it.
        policy, optimizer: the tables of party.toml of the same name.
        private_seed: 32 bytes that keep initial weights private and reproducible; a file of it is made where left out.
        device, threads, model_threads: as in party.toml.

    Raises:
        ConfigError: a setting is wrong; it names the key.
        DataError: a table in memory lacks its label column.
    """

    def __init__(
        self,
        name: str,
        table: Table,
        *,
        bottom: Bottom | None = None,
        policy: Mapping[str, Any] | None = None,
        optimizer: Mapping[str, Any] | None = None,
        private_seed: bytes | None = None,
        device: str = "cpu",
        threads: int | None = None,
        model_threads: int = 1,
    ) -> None:
        self.name = name
        self.table = table
        self.private_seed = private_seed
        self.bottom = bottom
        content: dict[str, Any] | None = None
        self._factory: Callable[..., nn.Module] | None = None
        if bottom is not None:
            content, self._factory = _bottom_content(bottom)
        options = {"bottom": content, "policy": policy, "optimizer": optimizer, "threads": threads}
        self._content: dict[str, Any] = {
            "name": name,
            "data": table.content,
            "device": device,
            "model_threads": model_threads,
            **{key: value for key, value in options.items() if value is not None},
        }
        self._setup: PartySetup | None = None
        # What is wrong is reported when the party is made, and not in a run.
        validated(self.content(job="job.toml"), PartyConfig, f"party '{name}'")
        if table.frame is not None:
            table.check_label()

    @classmethod
    def from_toml(cls, path: str | Path, *, bottom: Callable[..., nn.Module] | None = None) -> Party:
        """The party of a party.toml, with the job and federation that it names.

        Args:
            bottom: in place of the one in the file: ``bottom(inputs: vfl.BottomInputs, width: int, **options)``.

        Raises:
            ConfigError: a file is wrong, or they contradict each other.
        """
        setup = load_party(Path(path))
        if bottom is not None:
            content, _ = _bottom_content(bottom)
            own = setup.config.bottom
            made = CustomBottom(**content) if not isinstance(own, CustomBottom) else own
            setup = replace(
                setup,
                config=setup.config.model_copy(update={"bottom": made}),
                given=GivenInPython(bottom=bottom),
            )
        return cls.of_setup(setup)

    @classmethod
    def of_setup(cls, setup: PartySetup) -> Party:
        """A party whose files have been read."""
        party = cls.__new__(cls)
        party.name = setup.name
        party._setup = setup
        return party

    @classmethod
    def simulated(cls, path: str | Path) -> Party:
        """The party of a party.toml for ``vfl.simulate``: its table, bottom, policy and optimizer, with any job.

        Its private seed, ledger, checkpoints and certificates are not used.

        Raises:
            ConfigError: the file is wrong, or a custom bottom cannot be found.
            ModelError: its module raised while it was imported.
        """
        path = Path(path)
        config = load_toml(path, PartyConfig)
        dumped = config.model_dump(mode="json", exclude_unset=True)
        party = cls(
            config.name,
            Table.of_config(config.data),
            **{key: dumped[key] for key in ("bottom", "policy", "optimizer", "device", "threads") if key in dumped},
            model_threads=config.model_threads,
        )
        if isinstance(config.bottom, CustomBottom):
            party._factory = load_factory(config.bottom.factory, path.absolute().parent)
        return party

    @property
    def files(self) -> PartySetup:
        """What was read from its files.

        Raises:
            ConfigError: it has none: it was made from a table in this program.
        """
        if self._setup is None:
            raise ConfigError(
                f"party '{self.name}' has no files: it does not know who else takes part",
                remedy="use vfl.simulate, or write the files with vfl.write_federation and load party.toml with "
                "vfl.Party.from_toml",
            )
        return self._setup

    def serve(self, *, keep_serving: bool = False, callbacks: Sequence[Callback] = ()) -> None:
        """Take part in the next run of its job, as ``vfl party`` does. See ``vfl.serve``."""
        serve(self, keep_serving=keep_serving, callbacks=callbacks)

    async def serve_async(self, *, keep_serving: bool = False, callbacks: Sequence[Callback] = ()) -> None:
        """As ``serve``; cancel the task to stop."""
        await serve_async(self, keep_serving=keep_serving, callbacks=callbacks)

    # --- for the rest of the package ---

    @property
    def trains(self) -> bool:
        """Whether its bottom trains, if it is a passive party."""
        bottom = self._content.get("bottom", {"kind": "encodings"})
        return bottom["kind"] not in ("encodings", "identity") and not bottom.get("frozen", False)

    @property
    def has_own_width(self) -> bool:
        """Whether its bottom's width follows from the table."""
        default = "mlp" if self.table.label is not None else "encodings"
        return self._content.get("bottom", {"kind": default})["kind"] in ("encodings", "identity")

    def content(self, **paths: Any) -> dict[str, Any]:
        """The content of its party.toml, with these keys in addition."""
        return {**self._content, **paths}

    def setup(
        self, job: JobConfig, federation: FederationConfig, parameters: Parameters, folder: Path, seed: bytes
    ) -> PartySetup:
        """What a process of this party would have read from files in ``folder``."""
        content = self.content(
            job="job.toml",
            private_seed=str(folder / "private_seed"),
            output=str(folder / "model"),
            privacy={"ledger": str(folder / "ledger.sqlite")},
            audit={"directory": str(folder / "audit")},
            checkpoints={"directory": str(folder / "checkpoints")},
        )
        config = validated(content, PartyConfig, f"party '{self.name}'", directory=folder)
        given = GivenInPython(self.table.frame, self._factory, self.private_seed or seed)
        return PartySetup(config, job, federation, federation.party(self.name), parameters, given)

    def __repr__(self) -> str:
        return f"Party({self.name!r})"


def as_list(passive: Party | Sequence[Party]) -> Sequence[Party]:
    """The passive parties of a call that takes one or several."""
    return [passive] if isinstance(passive, Party) else passive


def serve(*parties: Party, keep_serving: bool = False, callbacks: Sequence[Callback] = ()) -> None:
    """Take part in the next run of each job; several parties are one organization's, each with another job.

    Blocks until the runs have ended. No signal handler is installed: Ctrl-C ends the run for all.

    Args:
        parties: made by ``Party.from_toml``.
        keep_serving: wait for the next run when one has ended, indefinitely.
        callbacks: notified of this party's part of each run.

    Raises:
        VflError: what ended a run.
    """
    run_blocking(lambda: serve_async(*parties, keep_serving=keep_serving, callbacks=callbacks))


async def serve_async(
    *parties: Party,
    keep_serving: bool = False,
    callbacks: Sequence[Callback] = (),
    stopping: asyncio.Future[StopReason] | None = None,
) -> None:
    """As ``serve``. Cancel the task to stop, or give ``stopping`` a result to stop in good order."""
    setups = [party.files for party in parties]
    error: VflError | None = await serve_party(
        *setups, keep_serving=keep_serving, stopping=stopping, callbacks=callbacks
    )
    if error is not None:
        raise error


def _bottom_content(bottom: Bottom) -> tuple[dict[str, Any], Callable[..., nn.Module] | None]:
    """The content of ``[bottom]``, and the factory where one was given as an object."""
    if isinstance(bottom, str):
        return ({"kind": "custom", "factory": bottom} if ":" in bottom else {"kind": bottom}), None
    if isinstance(bottom, Mapping):
        return dict(bottom), None
    module, name = getattr(bottom, "__module__", "__main__"), getattr(bottom, "__qualname__", "bottom")
    return {"kind": "custom", "factory": f"{module}:{name.replace('<', '_').replace('>', '_')}"}, bottom
