import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vfl.configuration.federation import FederationConfig, parse_endpoint

VALID = {
    "name": "demo",
    "coordinator": "hub",
    "parties": [
        {"name": "bank", "role": "active", "endpoint": "bank.example:5001"},
        {"name": "shop", "role": "passive", "endpoint": "10.0.0.2:5001", "listen": "0.0.0.0:5001"},
    ],
}


def changed(**changes):
    config = copy.deepcopy(VALID)
    for key, value in changes.items():
        if key == "parties":
            for at, party in value.items():
                config["parties"][at].update(party)
        else:
            config[key] = value
    return config


BEHIND = changed(parties={0: {"endpoint": None, "via": "shop"}, 1: {"endpoint": "127.0.0.1:5001", "listen": None}})


def test_a_party_without_a_port_listens_on_no_address():
    federation = FederationConfig.model_validate(BEHIND)
    assert federation.party("bank").listen_endpoint == ""
    assert federation.server_name("bank") == "bank.demo.vfl.internal"


def test_a_valid_federation_answers_who_is_who():
    federation = FederationConfig.model_validate(VALID)
    assert federation.is_mutual_tls
    assert federation.active.name == "bank"
    assert [p.name for p in federation.passives] == ["shop"]
    assert federation.party("bank").listen_endpoint == "bank.example:5001"
    assert federation.party("shop").listen_endpoint == "0.0.0.0:5001"
    assert federation.identity("hub") == "spiffe://demo/party/hub"
    with pytest.raises(KeyError):
        federation.party("hub")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (changed(parties={0: {"role": "passive"}}), "exactly one with role 'active', not 0"),
        (changed(parties={1: {"role": "active"}}), "exactly one with role 'active', not 2"),
        (changed(parties={1: {"role": "coordinator"}}), "parties.1.role"),
        (changed(parties={1: {"name": "bank"}}), "names must differ"),
        (changed(coordinator="shop"), "names must differ"),
        (changed(parties={1: {"endpoint": "bank.example:5001"}}), "endpoints must differ"),
        (changed(name="Demo"), "name"),
        (changed(coordinator="a" * 64), "coordinator"),
        (changed(coordinator="hub\n"), "coordinator"),
        (changed(parties={0: {"name": "../x"}}), "parties.0.name"),
        (changed(parties={0: {"endpoint": "bank"}}), "host:port"),
        (changed(parties={0: {"endpoint": "bank:0"}}), "host:port"),
        (changed(parties={0: {"endpoint": None}}), "'bank' needs either an endpoint .* or"),
        (changed(parties={0: {"via": "shop"}}), "'bank' needs either an endpoint .* or"),
        (changed(parties={1: {"endpoint": None, "via": "bank"}}), "'shop' has 'via' .* remove 'listen'"),
        (changed(parties={0: {"endpoint": None, "via": "bank"}}), "via of party 'bank' must name .* endpoint: shop"),
        (changed(parties={0: {"endpoint": None, "via": "hub"}}), "via of party 'bank' must name .* endpoint: shop"),
        (BEHIND | {"tls": {"mode": "insecure-loopback"}}, "via of party 'bank' needs tls.mode 'mutual'"),
        (changed(tls={"mode": "none"}), "tls.mode"),
        (changed(tls={"mode": "insecure-loopback"}), "endpoint of party 'bank'"),
    ],
)
def test_a_contradictory_federation_is_refused(config, says):
    with pytest.raises(ValidationError, match=says):
        FederationConfig.model_validate(config)


@pytest.mark.parametrize(("passives", "fits"), [(0, False), (1, True), (8, True), (9, False)])
def test_one_to_eight_passive_parties(passives, fits):
    parties = [{"name": "bank", "role": "active", "endpoint": "h:1"}]
    parties += [{"name": f"p{i}", "role": "passive", "endpoint": f"h:{i + 2}"} for i in range(passives)]
    if fits:
        assert len(FederationConfig.model_validate(VALID | {"parties": parties}).passives) == passives
    else:
        with pytest.raises(ValidationError, match="1 to 8"):
            FederationConfig.model_validate(VALID | {"parties": parties})


@pytest.mark.parametrize(
    ("endpoint", "listen", "accepted"),
    [
        ("127.0.0.1:1", None, True),
        ("127.9.9.9:1", None, True),
        ("localhost:1", None, True),
        ("[::1]:1", None, True),
        ("127.0.0.1:1", "0.0.0.0:1", False),
        ("10.0.0.1:1", None, False),
        ("[::2]:1", None, False),
        ("localhost.example:1", None, False),
    ],
)
def test_without_tls_everything_is_on_loopback(endpoint, listen, accepted):
    config = changed(tls={"mode": "insecure-loopback"}, parties={0: {"endpoint": "127.0.0.1:9"}})
    config["parties"][1] |= {"endpoint": endpoint, "listen": listen}
    if accepted:
        assert not FederationConfig.model_validate(config).is_mutual_tls
    else:
        with pytest.raises(ValidationError, match="insecure-loopback"):
            FederationConfig.model_validate(config)


@given(st.text(alphabet="ab.:[]0159 /", max_size=12))
def test_an_endpoint_is_parsed_back_to_what_was_written_or_refused(text):
    try:
        endpoint = parse_endpoint(text)
    except ValueError:
        return
    assert 1 <= endpoint.port <= 65535
    host, _, port = text.rpartition(":")
    assert (host, int(port)) in ((endpoint.host, endpoint.port), (f"[{endpoint.host}]", endpoint.port))
