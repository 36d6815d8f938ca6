"""``tools/ship.py`` in this repository: nothing published is stale."""

import ship

from fusionzoo import weights


def test_nothing_is_stale():
    # tests/test_golden.py holds the outputs against the stored ones.
    assert ship.stale(ship.all_keys(), with_golden=False) == []


def test_every_folder_of_checkpoints_is_published():
    assert ship.all_keys() == sorted(weights.weights_table())
