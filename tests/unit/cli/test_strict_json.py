import json
import math

import pytest

from vfl.run_records.strict_json import strict_json


def test_numbers_that_json_does_not_have_become_null():
    content = {"auc": math.nan, "list": [1.5, math.inf, {"low": -math.inf}], "pair": (1, math.nan), "text": "NaN"}
    found = json.loads(strict_json(content), parse_constant=pytest.fail)
    assert found == {"auc": None, "list": [1.5, None, {"low": None}], "pair": [1, None], "text": "NaN"}
