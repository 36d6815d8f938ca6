"""Weight files: what is published, how a file is checked, read and written.

torch and safetensors are imported where they are used: the table of published weights must be
readable without them.
"""

from fusionzoo.weights.card import basic_card, licence_header
from fusionzoo.weights.files import (
    CARD_NAME,
    CONFIG_NAME,
    PICKLES,
    WEIGHTS_NAME,
    check_state,
    load_state,
    make_config,
    read_checkpoint,
    read_config,
    read_pickle,
    read_safetensors,
    readable,
    write_pretrained,
)
from fusionzoo.weights.hub import (
    HUB_PREFIX,
    HubAccess,
    HubAddress,
    cached_file,
    parse_address,
    published_folder,
    shared_folder,
    upload_folder,
)
from fusionzoo.weights.table import (
    HOME_VARIABLE,
    WeightsCfg,
    checkpoint_folders,
    fingerprint,
    identified,
    local_file,
    packaged_folder,
    sha256_of,
    verify,
    verify_config,
    weights_table,
)

__all__ = [
    "CARD_NAME",
    "CONFIG_NAME",
    "HOME_VARIABLE",
    "HUB_PREFIX",
    "PICKLES",
    "WEIGHTS_NAME",
    "HubAccess",
    "HubAddress",
    "WeightsCfg",
    "basic_card",
    "cached_file",
    "check_state",
    "checkpoint_folders",
    "fingerprint",
    "identified",
    "licence_header",
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
    "readable",
    "sha256_of",
    "shared_folder",
    "upload_folder",
    "verify",
    "verify_config",
    "weights_table",
    "write_pretrained",
]
