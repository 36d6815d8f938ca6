"""Weight files: what is published, how a file is checked, read and written.

torch and safetensors are imported where they are used: the table of published weights must be
readable without them.
"""

from fusionzoo.weights._layout import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME
from fusionzoo.weights.card import basic_card
from fusionzoo.weights.fingerprint import fingerprint, packaged_folder
from fusionzoo.weights.reading import (
    load_state,
    read_checkpoint,
    read_config,
    read_pickle,
    read_safetensors,
)
from fusionzoo.weights.table import (
    WeightsCfg,
    checkpoint_folders,
    sha256_of,
    update_weights_table,
    verify,
    weights_table,
)
from fusionzoo.weights.writing import make_config, write_pretrained

__all__ = [
    "CARD_NAME",
    "CONFIG_NAME",
    "WEIGHTS_NAME",
    "WeightsCfg",
    "basic_card",
    "checkpoint_folders",
    "fingerprint",
    "load_state",
    "make_config",
    "packaged_folder",
    "read_checkpoint",
    "read_config",
    "read_pickle",
    "read_safetensors",
    "sha256_of",
    "update_weights_table",
    "verify",
    "weights_table",
    "write_pretrained",
]
