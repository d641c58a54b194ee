"""The shape of the interaction layer of a run, checked against the analytic bounds."""

from __future__ import annotations

from collections.abc import Mapping

from vfl.errors import MismatchError
from vfl.he.arithmetic.updates import check_rates
from vfl.he.bounds import check_bounds
from vfl.ids import Split
from vfl.interact.layer import InteractionShape
from vfl.job.schedule import workloads
from vfl.party.config import PartySetup


def agreed_shape(setup: PartySetup, widths: Mapping[str, int], counts: Mapping[Split, int]) -> InteractionShape:
    """The shape, which all parties know once the widths of all bottoms are known.

    Args:
        widths: of all parties' bottoms.
        counts: aligned rows of each split.

    Raises:
        MismatchError: the job states another width of a party than the party itself.
        ParameterError: the analytic bounds do not hold for the resulting layouts, or a rate cannot be represented.
    """
    job, parameters, active = setup.job, setup.parameters, setup.federation.active.name
    for name, width in widths.items():
        if (stated := job.model.widths.get(name, width)) != width:
            raise MismatchError(
                f"{name} states that its bottom has width {width}, and the job says {stated}",
                remedy=f"check party.toml of {name} and model.widths of the job",
            )
    shape = InteractionShape(
        active=active,
        widths={party.name: widths[party.name] for party in setup.federation.passives},
        out_width=job.interaction_width,
        own_width=widths[active],
        gradient_receivers=frozenset(job.model.trainable),
        stagewise=job.stagewise,
        link_mbit=job.interaction.link_mbit,
    )
    planned, passive = workloads(job, dict(counts)), tuple(shape.widths.values())
    for columns, work in planned:
        check_bounds(parameters, work, passive, columns, shape.gradient_widths, shape.link_mbit)
    sizes = {counts[Split.TRAIN]} if job.stagewise else planned[0][1].training
    for rate in job.extreme_rates:
        check_rates(rate, job.interaction.momentum, sizes, parameters)
    return shape
