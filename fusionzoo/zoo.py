"""From a name to a model with its weights: list, create, load, import."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionzoo import weights
from fusionzoo.models import MODELS, ModelEntry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fusionzoo.module import FusionModule

__all__ = ["create_model", "import_weights", "list_models", "load"]

_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin")
_FILES = (".ckpt", ".safetensors", *_PICKLES)


def list_models(filter: str = "*", pretrained: bool = False) -> list[str]:
    """Return the names of models, sorted.

    Args:
        filter: a name with shell wildcards, such as ``"co*"``; upper and lower case are alike.
        pretrained: list what :func:`load` has trained weights for instead: ``name`` and, for
            further weights of a model, ``name.tag``.
    """
    names = weights.weights_table() if pretrained else MODELS
    return sorted(name for name in names if fnmatchcase(name, filter.lower()))


def create_model(name: str, **options: Any) -> FusionModule:
    """Make a model with fresh weights, in train mode; :func:`load` gives trained ones.

    Args:
        name: one of :func:`list_models`.
        options: the model's own keyword options; its class documents them.

    Raises:
        ValueError: an unknown name (the closest ones are given), an unknown option (the valid
            ones are given), or a value that the model refuses.
    """
    model_class = _entry(name).model_class()
    valid = _options_of(model_class)
    for option in options:
        if option not in valid:
            close = difflib.get_close_matches(option, valid, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ValueError(
                f"{name!r} has no option {option!r}{hint}; its options are {', '.join(valid)}"
            )
    return model_class(**options)


def load(
    name_or_path: str | os.PathLike[str],
    *,
    device: torch.device | str | None = None,
    **options: Any,
) -> FusionModule:
    """Load a model with trained weights, in eval mode.

    Nothing is downloaded. A published file is looked for in the folder that ``FUSIONZOO_HOME``
    names (if that is set), then among the files that come with the package, and is verified
    by its SHA-256 before use.

    Args:
        name_or_path: ``name`` or ``name.tag`` of published weights
            (``list_models(pretrained=True)``); a folder written by ``save_pretrained``, or the
            ``model.safetensors`` in it; or a ``.ckpt`` that training wrote. A model's name wins
            over a folder called the same: write ``./name`` for the folder.
        device: where the model goes; the CPU if not given.
        options: model options that replace those stored with the weights, e.g. ``rule="sum"``.

    Returns:
        The model in eval mode and float32; the random state is left as it was.

    Raises:
        FileNotFoundError: a file or folder does not exist.
        ValueError: an unknown name or option; a file that is damaged, pickled, not the published
            one or of another architecture. The message says which, and what to do.
    """
    import torch

    config, state, source = _read(name_or_path)
    # Fresh values are overwritten at once; drawing them must not shift the caller's random state.
    with torch.random.fork_rng(devices=[]):
        model = _create_stored(config, options, source)
    weights.load_state(model.network, state, source=source)
    model.eval()
    return model if device is None else model.to(device)


def import_weights(name: str, *paths: str | os.PathLike[str]) -> Path:
    """Convert weights released by a paper's authors into a folder that :func:`load` reads.

        import_weights("didfuse", "encoder.pkl", "decoder.pkl", "my_folder")

    Args:
        name: one of :func:`list_models`.
        paths: the authors' files in the order of the model's entry (``MODELS[name].importer``),
            and last the folder to write.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: the model has no importer, another number of files, or a file that is damaged
            or not what it is given as.
    """
    entry = _entry(name)
    importer = entry.importer
    if importer is None:
        able = [other.name for other in MODELS.values() if other.importer is not None]
        raise ValueError(f"{name!r} has no importer; models that have one: {', '.join(able)}")
    if len(paths) != len(importer.files) + 1:
        raise ValueError(
            f"importing {name!r} takes {', '.join(importer.files)} and the folder to write; "
            f"{len(paths)} paths were given"
        )
    *files, folder = map(Path, paths)
    state = importer.function()(*files)
    model = create_model(name, **importer.options)
    weights.load_state(model.network, state, source=" and ".join(map(str, files)))

    config = weights.make_config(name, importer.options)
    card = weights.basic_card(
        config,
        title=entry.title,
        paper=entry.paper,
        origin=(
            f"Converted from the authors' release ({importer.source}); not trained with this "
            f"package. Licence of the weights: {importer.licence}."
        ),
        tags=entry.tasks,
    )
    return weights.write_pretrained(folder, config, model.network.state_dict(), card)


def _entry(name: str) -> ModelEntry:
    try:
        return MODELS[name]
    except KeyError:
        raise _unknown(name, MODELS) from None


def _unknown(name: str, known: Iterable[str]) -> ValueError:
    known = sorted(known)
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return ValueError(f"unknown model {name!r}: {hint}models are {', '.join(known)}")


def _options_of(model_class: type) -> list[str]:
    parameters = inspect.signature(model_class).parameters.values()
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def _create_stored(
    config: Mapping[str, Any], options: Mapping[str, Any], source: object
) -> FusionModule:
    """Make the model that a config describes, with the user's options in place of its own."""
    name, stored = config["model"], config["options"]
    if name not in MODELS:
        raise ValueError(
            f"{source} is of a model that this version does not have; {_unknown(name, MODELS)}"
        )
    strange = sorted(stored.keys() - _options_of(MODELS[name].model_class()))
    if strange:
        raise ValueError(
            f"{source} was made with options that this version's {name!r} does not have: "
            f"{', '.join(strange)}; install the version that wrote it "
            f"({config.get('fusionzoo_version', 'not recorded')})"
        )
    return create_model(name, **{**stored, **options})


# Where weights come from: a name, a folder or a file -> config, state and what to call it ---------

_Read = tuple[dict[str, Any], dict[str, "Tensor"], Path]


def _read(name_or_path: str | os.PathLike[str]) -> _Read:
    if not _is_path(name_or_path):
        return _read_published(str(name_or_path))
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; give a model's name, a folder written by save_pretrained, "
            "or a .ckpt"
        )
    if path.name == weights.WEIGHTS_NAME:
        return _read_folder(path.parent)
    if path.suffix == ".ckpt":
        return *weights.read_checkpoint(path), path
    if path.suffix in _PICKLES:
        raise ValueError(
            f"{path} looks like pickled weights, which can run code when opened, and does not say "
            "what model it is of; give a save_pretrained folder or a .ckpt, or convert weights "
            "of a paper's authors with `fusionzoo import-weights`"
        )
    raise ValueError(
        f"{path} is no model; give a folder written by save_pretrained, the {weights.WEIGHTS_NAME} "
        "in it, or a .ckpt"
    )


def _is_path(name_or_path: str | os.PathLike[str]) -> bool:
    if not isinstance(name_or_path, str):
        return True
    if name_or_path.endswith(_FILES) or "/" in name_or_path or os.sep in name_or_path:
        return True
    return name_or_path.partition(".")[0] not in MODELS and Path(name_or_path).exists()


def _read_folder(folder: Path) -> _Read:
    config = weights.read_config(folder)
    file = folder / weights.WEIGHTS_NAME
    if not file.is_file():
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
        found = f" (there is {', '.join(pickles)}: pickles are refused)" if pickles else ""
        raise FileNotFoundError(f"{file} does not exist{found}; get the whole folder again")
    state, _ = weights.read_safetensors(file)
    return config, state, file


def _read_published(key: str) -> _Read:
    table = weights.weights_table()
    if key not in table:
        name = _entry(key.partition(".")[0]).name  # raises where the model itself is unknown
        tags = sorted(k for k in table if k.partition(".")[0] == name)
        known = f"; weights of this model: {', '.join(tags)}" if tags else ""
        raise ValueError(
            f"there are no published weights called {key!r}{known}. Give a folder or a .ckpt, or "
            f"train: create_model({name!r}) makes an untrained model"
        )
    folder = _published_folder(key, table[key])
    weights.verify(folder / weights.WEIGHTS_NAME, table[key])
    config, state, file = _read_folder(folder)
    if config["model"] != key.partition(".")[0]:
        raise ValueError(
            f"{folder / weights.CONFIG_NAME} is of model {config['model']!r}, not of {key!r}; "
            "install the package again"
        )
    return config, state, file


def _published_folder(key: str, cfg: weights.WeightsCfg) -> Path:
    """Return where a published model lies; a source that is not local would be asked last, here."""
    places = [folder / cfg.file for folder in weights.checkpoint_folders()]
    for file in places:
        if file.is_file():
            return file.parent
    looked = ", ".join(map(str, places)) or "no folder of checkpoints was found"
    raise FileNotFoundError(
        f"the weights {key!r} are not on this machine ({looked}); install the package again, or "
        "set FUSIONZOO_HOME to the folder that holds them"
    )
