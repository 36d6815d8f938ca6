"""What a model folder and a checkpoint look like."""

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"

FORMAT = 1  # of config.json and of the "fusionzoo" entry of a checkpoint
NETWORK_PREFIX = "network."  # where the network sits in a FusionModule

# Suffixes of files that are pickles, and so can run code when opened.
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin")
