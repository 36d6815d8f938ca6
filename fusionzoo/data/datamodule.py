"""FusionDataModule: pairs of image files to loaders for training and evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import distributed
from torch.utils.data import DataLoader

from fusionzoo.data.dataset import PairDataset, Sample, collate_pairs
from fusionzoo.data.decoding import Loaded, LoadedWithMask, check_pairs
from fusionzoo.data.layouts import DatasetLayout, get_layout
from fusionzoo.data.masks import MASK_SOURCES
from fusionzoo.data.pairs import Pair, PairError, Problem, scan_pairs
from fusionzoo.data.sampling import PairSampler, ShareSampler, TrainLoader
from fusionzoo.errors import InputError, check_choice
from fusionzoo.remote import as_path

_MOST_BY_SHARE = 20

_PARTS = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("predict",),
}


class FusionDataModule(lightning.LightningDataModule):
    """Folders of aligned image pairs.

    A root holds two folders, ``ir_dir`` and ``vi_dir``, with the same file names up to their
    endings, nested or not; see :func:`fusionzoo.data.find_pairs`. All files are checked before
    training starts, and everything that is wrong comes in one :class:`PairError`. Batches are
    :class:`fusionzoo.data.Batch` dictionaries.

    Training draws depend on ``seed``, the epoch and the draw's number only: neither the number of
    workers nor that of processes nor the global random state matters. Under distributed
    training ``batch_size`` is that of one process.

    Validation, test and prediction give whole images one by one, in order. Without roots of their
    own, ``validate`` uses the pairs held back, or else, like ``test`` and ``predict``, ``root``.

    8-bit images are divided by 255; 16-bit and float images are scaled by the 0.5 and 99.5
    percentiles of the whole image, as in :meth:`fusionzoo.module.FusionModule.fuse`.

    With ``mask``, training batches have a mask of each pair's targets. The file that a pair has
    below ``root/mask_dir`` comes first: an image of the pair's size, in which half of full scale
    or more marks targets. Else the mask is made of the whole image, once if images are cached and
    anew for each draw if not; ``fusionzoo masks`` writes the files beforehand.

    Args:
        root: training root, or a list of them; folders, or URLs such as ``s3://bucket/folder``.
        layout: name of a known dataset (:func:`fusionzoo.data.list_layouts`): gives ``ir_dir``,
            ``vi_dir`` and ``color_from`` unless these are given.
        ir_dir: folder of the infrared images (or PET, ...) below a root; "ir" by default.
            "{split}" in it stands for "train" below ``root`` and "test" below the other roots;
            of names divided by "|" ("pet|spect|ct") the first counts that a root has.
        vi_dir: folder of the visible images (or MRI, ...); "vi" by default.
        val_root, test_root, predict_root: other roots, or lists of them.
        holdout: so many training pairs, chosen by ``seed``, are kept out of training; they are
            validated on unless there is a ``val_root``. Below 1 it is a share of the pairs: at
            least one pair and at most 20 are kept out then.
        crop_size: edge of training crops in pixels; None trains on whole images. Smaller images
            are enlarged to it by reflection at their borders.
        crop: "random", or "center" for the middle of every image.
        flip: flip training pairs horizontally and vertically, each for half of the draws.
        darken: share of the training draws, 0 to 1, whose images are darkened, each multiplied by
            a factor of its own from 0.1 to 1: nights that the training pairs may lack.
        halve: share of the training draws, 0 to 1, that show twice as much of the images at half
            the size: cameras of other resolutions. Needs a ``crop_size``.
        balance: draw from every training root about as often, however many pairs it holds.
        color: add ``cbcr`` to the batches.
        color_from: the image whose colour that is, "vi" (default) or "ir".
        batch_size: of training, for each process.
        num_workers: processes that prepare batches; 0 is best for cached data.
        seed: of everything random here; at least 0.
        cache: decode training and validation images once and keep them in memory.
        cache_limit: in GB; what would need more is read from disk each time.
        drop_last: leave out the last batch of a training epoch if it is not whole.
        pairs_per_epoch: length of a training epoch in pairs: a part of them, drawn anew for each
            epoch, or several passes over all of them; None for each pair once.
        mask: add ``mask`` to training batches: "saliency", hot targets in the infrared image, or
            "foreground", tissue in the MRI in the visible image's place; see
            :func:`fusionzoo.data.target_mask`. None for batches without masks.
        mask_dir: folder of masks below a training root, which need not exist.

    Raises:
        InputError: for arguments out of range.
    """

    def __init__(
        self,
        root: str | list[str] | None = None,
        *,
        layout: str | None = None,
        ir_dir: str | None = None,
        vi_dir: str | None = None,
        val_root: str | list[str] | None = None,
        test_root: str | list[str] | None = None,
        predict_root: str | list[str] | None = None,
        holdout: int | float = 0,
        crop_size: int | None = None,
        crop: Literal["random", "center"] = "random",
        flip: bool = False,
        darken: float = 0.0,
        halve: float = 0.0,
        balance: bool = False,
        color: bool = False,
        color_from: Literal["vi", "ir"] | None = None,
        batch_size: int = 1,
        num_workers: int = 0,
        seed: int = 0,
        cache: bool = True,
        cache_limit: float = 4.0,
        drop_last: bool = False,
        pairs_per_epoch: int | None = None,
        mask: Literal["saliency", "foreground"] | None = None,
        mask_dir: str = "mask",
    ) -> None:
        super().__init__()
        check_choice("crop", crop, ("random", "center"))
        check_choice("color_from", color_from, ("vi", "ir", None))
        check_choice("mask", mask, (*MASK_SOURCES, None))
        _check_at_least("crop_size", crop_size, 2)
        _check_at_least("batch_size", batch_size, 1)
        _check_at_least("pairs_per_epoch", pairs_per_epoch, 1)
        for name, value in (("holdout", holdout), ("num_workers", num_workers), ("seed", seed)):
            _check_at_least(name, value, 0)
        for name, share in (("darken", darken), ("halve", halve)):
            if not 0 <= share <= 1:
                raise InputError(f"{name}={share}; use a share of the draws, 0 to 1")
        if holdout >= 1 and holdout != int(holdout):
            raise InputError(f"holdout={holdout}; use a whole number, or a share below 1")
        known: DatasetLayout | None = get_layout(layout) if layout is not None else None
        self.roots = {
            "train": _listed(root),
            "val": _listed(val_root),
            "test": _listed(test_root),
            "predict": _listed(predict_root),
        }
        self.layout = known
        self.ir_dir = ir_dir if ir_dir is not None else known.ir_dir if known else "ir"
        self.vi_dir = vi_dir if vi_dir is not None else known.vi_dir if known else "vi"
        self.color_from: Literal["vi", "ir"] = color_from or (known.color_from if known else "vi")
        self.holdout = holdout
        self.crop_size = crop_size
        self.crop = crop
        self.flip = flip
        self.darken = darken
        self.halve = halve
        self.balance = balance
        self.color = color
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.cache = cache
        self.cache_limit = cache_limit
        self.drop_last = drop_last
        self.pairs_per_epoch = pairs_per_epoch
        self.mask = mask
        self.mask_dir = mask_dir
        #: Datasets by part ("train", "val", "test", "predict"), as far as `setup` has made them.
        self.datasets: dict[str, PairDataset] = {}

    def setup(self, stage: str | None = None) -> None:
        """Find, check and, if cached, decode what the stage needs; nothing is done twice.

        Args:
            stage: "fit", "validate", "test" or "predict"; None for all that have a root.

        Raises:
            PairError: an InputError that lists all that is wrong with the files.
            InputError: no root for the stage, or nothing left to train on.
        """
        if stage is None:
            wanted = [part for part in self.roots if self.roots[part]]
            wanted += ["val"] if self.roots["train"] and "val" not in wanted else []
        else:
            wanted = list(_PARTS[stage])
        parts = [part for part in wanted if part not in self.datasets]
        pairs: dict[str, list[Pair]] = {}
        problems: dict[str, Problem] = {}  # by text: two parts may look at the same files
        for part in parts:
            of_part, wrong = self._find(part, fitting=stage in ("fit", None))
            problems.update((str(problem), problem) for problem in wrong)
            if of_part or wrong:
                pairs[part] = of_part
        made = {}
        for part, chosen in pairs.items():
            made[part], wrong = self._open(part, chosen)
            problems.update((str(problem), problem) for problem in wrong)
        if problems:
            raise PairError(problems.values())
        self.datasets.update(made)
        held_back = bool(self.holdout) and not self.roots["val"]
        for part, dataset in made.items():
            note = ", held back from training (holdout)" if part == "val" and held_back else ""
            rank_zero_info(f"{part}: {len(dataset)} pair{'s' * (len(dataset) != 1)}{note}")
        if stage == "fit" and "val" not in self.datasets:
            rank_zero_info("val: no pairs, so nothing is measured; set holdout or val_root")

    def _find(self, part: str, fitting: bool) -> tuple[list[Pair], list[Problem]]:
        """The pairs of a part; none for validation if none is wanted while fitting."""
        if part != "train" and self.roots[part]:
            return self._scan(part)
        if part == "val" and fitting and not self.holdout:
            return [], []
        if not self.roots["train"]:
            option = "root" if part == "train" else f"{part}_root"
            raise InputError(f"no {option} is given; set data.{option} to a folder of image pairs")
        pairs, problems = self._scan("train", masks=part == "train")
        if part in ("train", "val") and self.holdout:
            held_back = self._held_back(len(pairs))
            if len(held_back) == len(pairs) and not problems:
                raise InputError(
                    f"holdout={self.holdout} leaves nothing of {len(pairs)} pairs to train on; "
                    "lower it"
                )
            pairs = [
                pair
                for number, pair in enumerate(pairs)
                if (number in held_back) == (part == "val")
            ]
        return pairs, problems

    def _scan(self, part: str, masks: bool = False) -> tuple[list[Pair], list[Problem]]:
        split = "train" if part == "train" else "test"
        ir_dir, vi_dir, mask_dir = (
            name.replace("{split}", split) for name in (self.ir_dir, self.vi_dir, self.mask_dir)
        )
        return scan_pairs(
            self.roots[part], ir_dir, vi_dir, mask_dir if self.mask and masks else None
        )

    def _held_back(self, pairs: int) -> set[int]:
        count = int(self.holdout)
        if 0 < self.holdout < 1:
            count = min(max(1, round(self.holdout * pairs)), _MOST_BY_SHARE)
        order = np.random.default_rng([self.seed, pairs]).permutation(pairs)
        return set(order[:count].tolist())

    def _open(self, part: str, pairs: Sequence[Pair]) -> tuple[PairDataset, list[Problem]]:
        # Test and prediction see every file once; decoding all of them first would gain nothing.
        cache = self.cache and part in ("train", "val")
        mask = self.mask if part == "train" else None
        loaded, problems = check_pairs(pairs, cache=cache, cache_limit=self.cache_limit, mask=mask)
        if cache and loaded is None and not problems:
            rank_zero_warn(
                f"{part}: {len(pairs)} pairs need more than cache_limit={self.cache_limit} GB in "
                "memory; they are read from disk, which is slower: raise num_workers"
            )
        images: Sequence[Loaded | LoadedWithMask] | None = loaded
        make = partial(
            PairDataset,
            color=self.color,
            color_from=self.color_from,
            seed=self.seed,
            mask=mask,
        )
        if part != "train":
            return make(pairs, images), problems
        if self.balance:
            order = _balanced([self._training_root_of(pair) for pair in pairs])
            pairs = [pairs[index] for index in order]
            images = None if images is None else [images[index] for index in order]
        dataset = make(
            pairs,
            images,
            crop_size=self.crop_size,
            crop=self.crop,
            flip=self.flip,
            darken=self.darken,
            halve=self.halve,
        )
        return dataset, problems

    def _training_root_of(self, pair: Pair) -> str:
        return next(root for root in self.roots["train"] if as_path(root) in pair.ir.parents)

    def train_dataloader(self) -> TrainLoader:
        """Shuffled batches of crops, shared out among the processes of a distributed run."""
        dataset = self._dataset("train")
        sampler = PairSampler(
            len(dataset),
            batch_size=self.batch_size,
            draws=self.pairs_per_epoch,
            seed=self.seed,
            drop_last=self.drop_last,
            **_place_in_group(),
        )
        return TrainLoader(dataset, batch_size=self.batch_size, sampler=sampler, **self._loading())

    def val_dataloader(self) -> DataLoader[Sample] | list[DataLoader[Sample]]:
        """Whole images, one by one; an empty list if there is nothing to validate on."""
        if "train" in self.datasets and "val" not in self.datasets:
            return []
        return self._whole_images("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """Whole images, one by one."""
        return self._whole_images("test")

    def predict_dataloader(self) -> DataLoader[Sample]:
        """Whole images, one by one; in distributed runs each in exactly one process."""
        sampler = ShareSampler(len(self._dataset("predict")), **_place_in_group())
        return self._whole_images("predict", sampler)

    def _whole_images(self, part: str, sampler: ShareSampler | None = None) -> DataLoader[Sample]:
        return DataLoader(self._dataset(part), batch_size=1, sampler=sampler, **self._loading())

    def _dataset(self, part: str) -> PairDataset:
        if part not in self.datasets:
            raise InputError(f"there are no {part} pairs yet; call setup() first")
        return self.datasets[part]

    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "collate_fn": collate_pairs,
            "pin_memory": torch.cuda.is_available(),
            # Starting an iterator draws a number; from here, not from the global state.
            "generator": torch.Generator().manual_seed(self.seed),
        }


def _balanced(roots: Sequence[object]) -> list[int]:
    """Indices of the pairs, those of smaller roots several times, so that roots are even."""
    counts = Counter(roots)
    largest = max(counts.values(), default=0)
    return [
        index
        for index, root in enumerate(roots)
        for _ in range(max(1, round(largest / counts[root])))
    ]


def _listed(roots: str | list[str] | None) -> list[str]:
    if roots is None:
        return []
    return [str(root) for root in roots] if isinstance(roots, list | tuple) else [str(roots)]


def _place_in_group() -> dict[str, int]:
    if distributed.is_available() and distributed.is_initialized():
        return {"num_replicas": distributed.get_world_size(), "rank": distributed.get_rank()}
    return {"num_replicas": 1, "rank": 0}


def _check_at_least(name: str, value: float | None, least: int) -> None:
    if value is not None and value < least:
        raise InputError(f"{name}={value}; use at least {least}")
