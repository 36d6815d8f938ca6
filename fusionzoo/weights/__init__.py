"""Weight files: what is published, how a file is checked, read and written.

torch and safetensors are imported where they are used: the table of published weights must be
readable without them.
"""

from fusionzoo.weights._layout import CARD_NAME, CONFIG_NAME, PICKLES, WEIGHTS_NAME
from fusionzoo.weights.card import basic_card
from fusionzoo.weights.fingerprint import fingerprint, packaged_folder
from fusionzoo.weights.hub import (
    HUB_PREFIX,
    HubAccess,
    HubAddress,
    cached_file,
    parse_address,
    published_folder,
    shared_folder,
)
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
    local_file,
    sha256_of,
    update_weights_table,
    verify,
    verify_config,
    weights_table,
)
from fusionzoo.weights.upload import upload_folder
from fusionzoo.weights.writing import make_config, write_pretrained

__all__ = [
    "CARD_NAME",
    "CONFIG_NAME",
    "HUB_PREFIX",
    "PICKLES",
    "WEIGHTS_NAME",
    "HubAccess",
    "HubAddress",
    "WeightsCfg",
    "basic_card",
    "cached_file",
    "checkpoint_folders",
    "fingerprint",
    "load_state",
    "local_file",
    "make_config",
    "packaged_folder",
    "parse_address",
    "published_folder",
    "read_checkpoint",
    "read_config",
    "read_pickle",
    "read_safetensors",
    "sha256_of",
    "shared_folder",
    "update_weights_table",
    "upload_folder",
    "verify",
    "verify_config",
    "weights_table",
    "write_pretrained",
]
