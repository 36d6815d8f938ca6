"""From a name to a model with its weights: list, create, load, fuse, import, share."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from fusionzoo import export, weights
from fusionzoo.errors import (
    FileError,
    InputError,
    InputTypeError,
    MissingFileError,
    check_choice,
    did_you_mean,
)
from fusionzoo.models import DEFAULT_MODEL, MODELS, ROLES, ModelEntry, Roles, split_key
from fusionzoo.models.options import make_with

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from fusionzoo.export import ExportedModel
    from fusionzoo.module import FusionModule

__all__ = [
    "create_model",
    "from_pretrained",
    "fuse",
    "import_weights",
    "list_models",
    "load",
    "load_network",
    "push_to_hub",
]

_Made = TypeVar("_Made")

_FILES = (".ckpt", ".safetensors", *weights.PICKLES, *export.FORMATS)


def list_models(filter: str = "*", pretrained: bool = True) -> list[str]:
    """Return the names that :func:`load` takes, sorted: ``name`` and ``name.tag``.

    ``fusionzoo list`` tells which of them are on this machine, and the size of those that would
    be downloaded.

    Args:
        filter: a name with shell wildcards, such as ``"co*"``; upper and lower case are alike.
        pretrained: ``False`` lists what :func:`create_model` takes instead: a name for each
            paper, whether or not there are trained weights.
    """
    names = weights.weights_table() if pretrained else MODELS
    return sorted(name for name in names if fnmatchcase(name, filter.lower()))


def create_model(name: str, **options: Any) -> FusionModule:
    """Make a model with fresh weights, in train mode; :func:`load` gives trained ones.

    Args:
        name: one of ``list_models(pretrained=False)``; upper and lower case are alike.
        options: the model's own keyword options; its class documents them.

    Raises:
        InputError: an unknown name (the closest ones are given), an unknown option (the valid
            ones are given), or a value that the model refuses.
    """
    import torch

    entry = _entry(name)
    name, model_class = entry.name, entry.model_class()
    _check_options(name, options, model_class)
    # What is made in inference mode could never be trained, nor told from changed weights.
    with torch.inference_mode(False):
        model: FusionModule = make_with(model_class, options, name)
    model.card_facts = _card_facts(entry)
    return model


def load(
    name_or_path: str | os.PathLike[str],
    *,
    device: torch.device | str | None = None,
    **options: Any,
) -> FusionModule:
    """Load a model with trained weights, in eval mode.

    Published weights are looked for in the folder that ``FUSIONZOO_HOME`` names (if that is
    set), then among the files that come with the package, and are verified by their SHA-256
    before use. The package holds all of them, so that nothing is downloaded; weights that are
    nowhere on the machine, such as those of a later table or an install without them, come
    from the Hugging Face hub and are kept in its cache. :func:`from_pretrained` has the hub's
    settings; ``HF_ENDPOINT``, ``HF_HOME``, ``HF_HUB_OFFLINE=1`` and so on count here, too.

    Args:
        name_or_path: ``name`` or ``name.tag`` of published weights
            (:func:`list_models`); a folder written by ``save_pretrained``, or the
            ``model.safetensors`` in it; a ``.ckpt`` that training wrote; or
            ``hf://owner/repo[@revision]`` for anyone's upload in this package's format. A
            model's name wins over a folder called the same: write ``./name`` for the folder.
            Names are alike in upper and lower case. Or a ``.onnx`` or ``.xml`` that
            ``fusionzoo export`` wrote.
        device: where the model goes; the CPU if not given.
        options: model options that replace those stored with the weights, e.g. ``rule="sum"``.

    Returns:
        The model in eval mode and float32; the random state is left as it was, also in
        ``torch.inference_mode()``. An exported file gives a
        :class:`fusionzoo.export.ExportedModel` instead: it has ``fuse``, ``prepared`` and
        ``stream``, and is not trained.

    Raises:
        MissingFileError: a file, folder, repository or revision does not exist, or may not be
            fetched.
        FileError: it cannot be read; or the hub cannot be reached, or denies access.
        InputError: an unknown name or option; a file that is damaged, pickled, not the published
            one or of another architecture. The message says which, and what to do.
    """
    if _is_exported(name_or_path):
        return cast("FusionModule", _exported(name_or_path, device, None, options))
    return _model(_read(name_or_path, weights.HubAccess()), device, options)


def fuse(
    ir: Any,
    vi: Any,
    *,
    model: str | os.PathLike[str] | FusionModule = DEFAULT_MODEL,
    **options: Any,
) -> Any:
    """Fuse an infrared with a visible image in one call: ``fusionzoo.fuse("ir.png", "vi.png")``.

    The model is loaded at the first call and kept for the next ones; of several models, the four
    used last are. A file or folder that changes is loaded again.

    Args:
        ir: the first modality, usually infrared: a path, an image, an array, a tensor, or a list
            of these, as for ``model.fuse``.
        vi: the second modality, usually visible, of the same height and width.
        model: what :func:`load` takes, or a model that is loaded already.
        options: those of :meth:`fusionzoo.module.FusionModule.fuse`, such as ``device``,
            ``color`` and ``resize``.

    Returns:
        The fused image, of the kind, size and bit depth of ``vi``; for a path, a PIL image.

    Raises:
        MissingFileError, FileError, InputError, InputTypeError: as :func:`load` and
            ``model.fuse``.
    """
    if isinstance(model, str | os.PathLike):
        model = _loaded(*_source_now(model))
    elif not callable(getattr(model, "fuse", None)):
        raise InputTypeError(
            f"model must be a name, a path or a loaded model, not {type(model).__name__}"
        )
    return model.fuse(ir, vi, **options)


@lru_cache(maxsize=4)
def _loaded(source: str, _now: object) -> FusionModule:
    return load(source)


def _source_now(model: str | os.PathLike[str]) -> tuple[str, object]:
    """Name what a model is loaded from, and what tells whether that has changed."""
    if _is_address(model) or not _is_path(model):
        return str(model), os.environ.get(weights.HOME_VARIABLE)
    path = Path(os.path.expanduser(model)).absolute()
    with weights.readable(path):
        folder = path if path.is_dir() else path.parent
        files = (path, folder / weights.CONFIG_NAME, folder / weights.WEIGHTS_NAME)
        stats = [file.stat() for file in files if file.exists()]
    return str(path), tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)


def from_pretrained(
    repo_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    device: torch.device | str | None = None,
    **options: Any,
) -> FusionModule:
    """Load a model as :func:`load` does, with a say in how the Hugging Face hub is asked.

    A repository's files are data: safetensors and the name of a model of this package with its
    options. No code of it runs, and pickles are refused. Whoever may write to the repository
    can change the model all the same; a commit as the ``revision`` pins it.

    Args:
        repo_or_path: ``owner/repo`` or ``hf://owner/repo[@revision]``; or anything that
            :func:`load` takes. A folder that exists wins over a repository called the same.
        revision: branch, tag or commit of the repository; ``main`` by default.
        cache_dir: the hub's cache folder.
        token: access token for a private repository; by default the one that
            ``hf auth login`` stored; ``False`` for none.
        local_files_only: take what the cache has and ask no server.
        device: where the model goes; the CPU if not given.
        options: model options that replace those stored with the weights.

    Returns:
        The model in eval mode and float32.

    Raises:
        MissingFileError, FileError, InputError: as :func:`load`.
    """
    access = weights.HubAccess(cache_dir, token, local_files_only)
    source = _address_or_path(repo_or_path)
    if revision is not None:
        if not _is_address(source):
            raise InputError(
                f"revision={revision!r} goes with a repository of the hub only, not with "
                f"{str(source)!r}; leave it out, or give 'owner/repo'"
            )
        address = weights.parse_address(str(source))
        if address.revision not in (None, revision):
            raise InputError(
                f"revision={revision!r} contradicts {str(source)!r}; give one of the two"
            )
        source = f"{weights.HUB_PREFIX}{address.repository}@{revision}"
    try:
        read = _read(source, access)
    except MissingFileError as error:
        if _is_address(repo_or_path) or not _is_address(source):
            raise
        raise MissingFileError(
            f"there is no folder {str(repo_or_path)!r} here, and {error}"
        ) from error
    return _model(read, device, options)


def load_network(
    name_or_path: str | os.PathLike[str],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Callable[..., Any]:
    """Load what fuses images, and no more: neither Lightning nor what the losses need.

    Stored options that only training heeds, such as a learning rate, are not looked at: a wrong
    one among them is refused by :func:`load`, and changes nothing of what is fused here.

        fuse = load_network("didfuse")
        fused = fuse("ir.png", "vi.png")

    Args:
        name_or_path: as for :func:`load`.
        device: where to compute; the CPU if not given.
        dtype: of the network's arithmetic; float32 if not given.
        options: model options that replace those stored with the weights.

    Returns:
        :func:`fusionzoo.inference.fuse_images` with the network, its device, dtype, sizes and
        value range given: it takes the two images and the options that ``model.fuse`` has.

    Raises:
        MissingFileError, FileError, InputError: as :func:`load`.
    """
    import torch

    from fusionzoo.inference import fuse_images
    from fusionzoo.network import declared_by, ready_copy

    if _is_exported(name_or_path):
        return _exported(name_or_path, device, dtype, options).prepared()
    read = _read(name_or_path, weights.HubAccess())
    dtype, device = dtype or torch.float32, torch.device(device or "cpu")
    network, roles = _network(read, options)
    return partial(
        fuse_images,
        ready_copy(network, device, dtype),
        color_from=roles.color_from,
        device=device,
        dtype=dtype,
        **declared_by(network),
    )


def push_to_hub(
    model: FusionModule,
    repo_id: str,
    *,
    card: str | None = None,
    dtype: torch.dtype | None = None,
    private: bool | None = None,
    commit_message: str | None = None,
    token: str | bool | None = None,
) -> str:
    """Upload a model to the Hugging Face hub, where :func:`load` reads it from.

    What is sent is what ``save_pretrained`` writes, in one commit: ``config.json``,
    ``model.safetensors`` and the card ``README.md``.

    Args:
        model: the model.
        repo_id: ``owner/repo``; the repository is made if need be.
        card: text of the model card; without it a repository keeps the card that it has, and a
            new one gets a generic card.
        dtype: what weights are stored as, ``torch.float32`` (default) or ``torch.float16``.
        private: whether a new repository is; by default the owner's setting decides.
        commit_message: what the commit says.
        token: access token that may write; by default the one that ``hf auth login`` stored.

    Returns:
        ``hf://owner/repo@commit``, which loads just this upload.

    Raises:
        InputError: ``repo_id`` is no such name, or the model cannot be stored.
        FileError, MissingFileError: the hub refuses, or cannot be reached.
    """
    address = weights.parse_address(repo_id)
    if address.revision is not None:
        raise InputError(f"repo_id {repo_id!r} names a revision; uploads make a new one")
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, dtype=dtype, card=card)
        if card is None:
            config = weights.read_config(folder)
            text = weights.basic_card(config, source=str(address), **model.card_facts)
            Path(folder, weights.CARD_NAME).write_text(text, encoding="utf-8")
        address = weights.upload_folder(
            folder,
            address.repository,
            message=commit_message,
            private=private,
            token=token,
            keep_card=card is None,
        )
    return str(address)


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
        MissingFileError: a file does not exist.
        InputError: the model has no importer, another number of files, or a file that is damaged
            or not what it is given as.
    """
    entry = _entry(name)
    importer = entry.importer
    if importer is None:
        able = [other.name for other in MODELS.values() if other.importer is not None]
        raise InputError(f"{name!r} has no importer; models that have one: {', '.join(able)}")
    if len(paths) != len(importer.files) + 1:
        raise InputError(
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
    entry = MODELS.get(name) or MODELS.get(str(name).lower())
    if entry is None:
        raise _unknown(name, MODELS, "models are")
    return entry


def _unknown(name: str, known: Iterable[str], what: str) -> InputError:
    known = sorted(known)
    hint = did_you_mean(name, known)
    return InputError(f"unknown model {name!r}: {hint and hint + ' '}{what} {', '.join(known)}")


def _card_facts(entry: ModelEntry, key: str | None = None) -> dict[str, Any]:
    """What a card says of a model: its paper; and for published weights their licence."""
    facts: dict[str, Any] = {"title": entry.title, "paper": entry.paper, "tags": entry.tasks}
    if key is not None:
        cfg = weights.weights_table()[key]
        facts |= {
            "tags": [entry.task_of(key)],
            "licence": cfg.weights_licence,
            # True as well of a model that was trained further since.
            "origin": f"Made from the published weights `{key}` (trained on: {cfg.training_data}).",
        }
    return facts


def _check_options(name: str, options: Iterable[str], model_class: type) -> None:
    valid = _options_of(model_class)
    for option in options:
        if option not in valid:
            hint = did_you_mean(option, valid, 1)
            raise InputError(
                f"{name!r} has no option {option!r}{hint and f' ({hint})'}; its options are "
                f"{', '.join(valid)}"
            )


def _options_of(model_class: type) -> list[str]:
    parameters = inspect.signature(model_class).parameters.values()
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def _model(
    read: _Read, device: torch.device | str | None, options: Mapping[str, Any]
) -> FusionModule:
    import torch

    config, state, source, key = read
    # Fresh values are overwritten at once; drawing them must not shift the caller's random state.
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        # First without values: a config that asks for a network far larger than its weights is
        # refused before the machine runs out of memory.
        bare = _without_values(lambda: _create_stored(config, options, source))
        weights.check_state(bare.network, state, source=source)
        model = _create_stored(config, options, source)
        weights.load_state(model.network, state, source=source)
    model.eval()
    entry = MODELS[config["model"]]
    # Of a file, by its values, not its hash: a copy may be stored in another precision.
    key = key or weights.identified(model.network.state_dict())[1]
    model.card_facts = _card_facts(entry, key)
    return model if device is None else _moved(model, device)


def _moved(model: FusionModule, device: torch.device | str) -> FusionModule:
    import torch

    try:
        return model.to(torch.device(device))
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"device={str(device)!r} cannot be used ({reason}); name one that torch finds here, "
            "such as 'cpu'"
        ) from error


def _network(read: _Read, options: Mapping[str, Any]) -> tuple[nn.Module, Roles]:
    """The network that a config describes with its weights, and what its two images are.

    Where an option is strange, or one that only training heeds, the model's class makes the
    network: it has the errors. So it does where a missing option's default takes Python to compute.
    """
    import torch

    config, state, source, _ = read
    entry = MODELS.get(config["model"])
    stored = config["options"]
    if entry is not None and stored.keys() <= entry.option_names():
        build = entry.network_builder()
        wanted = inspect.signature(build).parameters.keys()
        later = wanted - stored.keys()
        known = {**(entry.option_defaults() if later else {}), **stored}
        heeded = {*wanted, "task"} & known.keys()
        if wanted <= known.keys() and options.keys() <= heeded:
            chosen = {name: {**known, **options}[name] for name in heeded}
            task = chosen.pop("task", entry.tasks[0])
            check_choice("task", task, ROLES)
            with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
                network: nn.Module = _without_values(lambda: make_with(build, chosen, entry.name))
                weights.load_state(network, state, source=source)
            return network, ROLES[task]
    model = _model(read, None, options)
    return model.network, Roles(model.modalities, model.color_from)


def _without_values(make: Callable[[], _Made]) -> _Made:
    """Make a model or network whose parameters are left as memory is; stored ones are to follow.

    That saves time, and spares the memory of a network too large for its weights: what nobody
    writes to takes no memory yet. Where even that cannot be had, what comes back has shapes only.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class NoFirstValues(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            if getattr(function, "__module__", None) == "torch.nn.init":
                return kwargs["tensor"] if "tensor" in kwargs else args[0]
            return function(*args, **kwargs)

    try:
        with NoFirstValues():
            return make()
    except InputError as error:
        if not isinstance(error.__cause__, RuntimeError):
            raise
    # Not at once: this device imports sympy, which takes longer than all the rest.
    with torch.device("meta"):
        return make()


def _create_stored(
    config: Mapping[str, Any], options: Mapping[str, Any], source: object
) -> FusionModule:
    """Make the model that a config describes, with the user's options in place of its own."""
    name, stored = config["model"], config["options"]
    if name not in MODELS:
        raise InputError(
            f"{source} is of a model that this version does not have; "
            f"{_unknown(name, MODELS, 'models are')}"
        )
    strange = sorted(stored.keys() - _options_of(MODELS[name].model_class()))
    if strange:
        raise InputError(
            f"{source} was made with options that this version's {name!r} does not have: "
            f"{', '.join(strange)}; install the version that wrote it "
            f"({config.get('fusionzoo_version', 'not recorded')})"
        )
    _check_options(name, options, MODELS[name].model_class())
    try:
        model = create_model(name, **{**stored, **options})
    except TypeError as error:
        raise InputError(f"{source}: the options do not suit {name!r} ({error})") from error
    # Options that are not kept name things of a machine, such as files: no business of a config.
    local = sorted(stored.keys() - model.options.keys() - options.keys())
    if local:
        raise InputError(
            f"{source} sets {', '.join(local)}, which save_pretrained does not store; take it out "
            f"of {weights.CONFIG_NAME}, or do not use a folder that asks for it"
        )
    return model


# Where weights come from: a name, a folder or a file -> config, state and what to call it ---------


class _Read(NamedTuple):
    """A model's config and state, the file they are of, and its key where its hash was checked."""

    config: dict[str, Any]
    state: dict[str, Tensor]
    source: Path
    key: str | None = None


def _read(name_or_path: str | os.PathLike[str], access: weights.HubAccess) -> _Read:
    if not isinstance(name_or_path, str | os.PathLike):
        raise InputTypeError(
            f"a model is loaded by name or path, not from a {type(name_or_path).__name__}"
        )
    if _is_address(name_or_path):
        address = weights.parse_address(str(name_or_path))
        return _read_folder(weights.shared_folder(address, access))
    if not _is_path(name_or_path):
        return _read_published(str(name_or_path), access)
    path = Path(os.path.expanduser(name_or_path))
    with weights.readable(path):
        return _read_path(path)


def _read_path(path: Path) -> _Read:
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise MissingFileError(
            f"{path} does not exist; give a model's name, a folder written by save_pretrained, a "
            f".ckpt, or {weights.HUB_PREFIX}owner/repo for a model on the hub"
        )
    if path.name == weights.WEIGHTS_NAME:
        return _read_folder(path.parent)
    if path.suffix == ".ckpt":
        return _Read(*weights.read_checkpoint(path), path)
    if path.suffix in weights.PICKLES:
        raise InputError(
            f"{path} looks like pickled weights, which can run code when opened, and does not say "
            "what model it is of; give a save_pretrained folder or a .ckpt, or convert weights "
            "of a paper's authors with `fusionzoo import-weights`"
        )
    raise InputError(
        f"{path} is no model; give a folder written by save_pretrained, the {weights.WEIGHTS_NAME} "
        "in it, or a .ckpt"
    )


def _is_address(name_or_path: str | os.PathLike[str]) -> bool:
    return isinstance(name_or_path, str) and name_or_path.startswith(weights.HUB_PREFIX)


def _is_exported(source: str | os.PathLike[str]) -> bool:
    """Whether a source is a file of :mod:`fusionzoo.export`, by its ending."""
    is_path = isinstance(source, str | os.PathLike) and not _is_address(source)
    return is_path and export.is_exported(source) and not Path(source).expanduser().is_dir()


def _exported(
    path: str | os.PathLike[str],
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    options: Mapping[str, Any],
) -> ExportedModel:
    import torch

    if options:
        raise InputError(
            f"{path} is exported: its options ({', '.join(options)}) are fixed; give them to "
            "`fusionzoo export`"
        )
    model: ExportedModel = export.load_exported(Path(path).expanduser())
    model.prepared(device=device, dtype=dtype or torch.float32)  # refuses what it cannot do
    return model


def _address_or_path(source: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Tell ``owner/repo`` from a folder: what exists is a folder."""
    if not isinstance(source, str) or not _is_path(source) or source.endswith(_FILES):
        return source
    if _exists(source):
        return source
    try:
        return str(weights.parse_address(source))
    except InputError:
        return source  # a path that is missing, and is said to be


def _is_path(name_or_path: str | os.PathLike[str]) -> bool:
    if not isinstance(name_or_path, str):
        return True
    if name_or_path.endswith(_FILES) or "/" in name_or_path or os.sep in name_or_path:
        return True
    return split_key(name_or_path)[0] not in MODELS and name_or_path != "" and _exists(name_or_path)


def _exists(path: str) -> bool:
    with weights.readable(path):
        return Path(os.path.expanduser(path)).exists()


def _read_folder(folder: Path) -> _Read:
    config = weights.read_config(folder)
    file = folder / weights.WEIGHTS_NAME
    if not file.is_file():
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in weights.PICKLES)
        instead = f" (there is {', '.join(pickles)}: pickles are refused)" if pickles else ""
        raise MissingFileError(f"{file} does not exist{instead}; get the whole folder again")
    state, _ = weights.read_safetensors(file)
    return _Read(config, state, file)


def _read_published(key: str, access: weights.HubAccess) -> _Read:
    table = weights.weights_table()
    key = key if key in table else key.lower()
    if key not in table:
        if key in MODELS:
            raise InputError(
                f"there are no published weights called {key!r}. Give a folder or a .ckpt, or "
                f"train: create_model({key!r}) makes an untrained model"
            )
        raise _unknown(key, table, "load takes a folder, a .ckpt, hf://owner/repo, or one of")
    cfg = table[key]
    folder = _published_folder(key, cfg, access)
    weights.verify(folder / weights.WEIGHTS_NAME, cfg)
    config, state, file, _ = _read_folder(folder)
    if config["model"] != split_key(key)[0]:
        raise InputError(
            f"{folder / weights.CONFIG_NAME} is of model {config['model']!r}, not of {key!r}; "
            "install the package again"
        )
    weights.verify_config(config, cfg, folder / weights.CONFIG_NAME)
    return _Read(config, state, file, key)


def _published_folder(
    key: str, cfg: weights.WeightsCfg, access: weights.HubAccess | None = None
) -> Path:
    """Return where a published model lies: on this machine, or else in the hub's cache."""
    file = weights.local_file(cfg)
    if file is not None:
        return file.parent
    looked = ", ".join(str(folder / cfg.file) for folder in weights.checkpoint_folders())
    missing = (
        f"the weights {key!r} ({cfg.size / 1e6:.3g} MB) are not on this machine "
        f"({looked or 'there is no folder for them'})"
    )
    remedy = "install the package again, or set FUSIONZOO_HOME to the folder that holds them"
    if not cfg.hub_repo:
        raise MissingFileError(f"{missing}; {remedy}")
    try:
        return weights.published_folder(cfg, access or weights.HubAccess())
    except (FileError, MissingFileError) as error:
        raise type(error)(
            f"{missing}, and the hub does not give them: {error}. Or {remedy}"
        ) from error
