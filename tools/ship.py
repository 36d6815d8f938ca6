"""Publish weights: every generated step in order, and what is left to do by hand.

    python tools/ship.py KEY --data DIR    # KEY is new, or its weights or options have changed
    python tools/ship.py --check           # what is stale, of all weights; changes nothing
    python tools/ship.py KEY --upload      # to its repository on the Hugging Face hub

KEY is a model's name, or name.tag; none means all. A step changes only what is not as it should be:

  folder   with --from: weights and options from there to checkpoints/KEY; a card stays
  entry    hash, size, parameters and facts of checkpoints/KEY in fusionzoo/weights.json
  golden   what the weights make of a small pair, in tests/golden
  runs     for a new KEY: checkpoints/KEY/benchmark.yaml with the usual test sets
  figures  the runs that results.csv does not hold, or of other weights or options
  cards    for a new KEY: the first text of checkpoints/KEY/README.md
  tables   in README.md, docs/, checkpoints/README.md and the cards, and the headers of the cards

Exit status: 0 done, or nothing stale; 1 something failed, or is stale; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from shutil import copytree

import cards
import golden
from entries import update_entry
from figures import read_figures
from measure import measure, stale_runs, tidied
from runs import RUNS_NAME, Benchmark, Run, read_benchmark

import fusionzoo
from fusionzoo import weights
from fusionzoo.cli.options import chosen_device
from fusionzoo.errors import FileError, FusionZooError, InputError, check_choice
from fusionzoo.files import write_whole
from fusionzoo.models import MODELS, split_key

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINTS = ROOT / "checkpoints"
TABLE = ROOT / "fusionzoo" / "weights.json"
DATA_VARIABLE = "FUSIONZOO_TEST_DATA"
AS_IT_WAS = "as it was"
#: What an entry of the table says and no file tells.
FACTS = (
    "origin", "training_data", "weights_licence", "code_licence", "commit",
    "hub_repo", "hub_revision",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see ``python tools/ship.py --help``."""
    parser = _parser()
    args = parser.parse_args(arguments)
    facts = {name: getattr(args, name) for name in FACTS if hasattr(args, name)}
    if (facts or args.source or args.upload) and len(args.keys) != 1:
        parser.error("facts, --from and --upload are of one KEY; name it")
    if Path(fusionzoo.__file__).resolve().parent != TABLE.parent:
        parser.error(f"fusionzoo comes from {fusionzoo.__file__}; run pip install -e {ROOT}")
    try:
        keys = args.keys or all_keys()
        if args.check:
            lines = stale(keys)
            print("\n".join(lines or ["nothing is stale"]))
            return 1 if lines else 0
        if args.upload:
            print(upload(read_benchmark(CHECKPOINTS), args.keys[0]))
            return 0
        ship(keys, facts, args)
    # Other classes are defects, and keep their traceback.
    except (FusionZooError, ValueError, OSError) as error:
        print(f"ship: {error}", file=sys.stderr)
        return 1
    return 0


def ship(keys: Sequence[str], facts: dict[str, str], args: argparse.Namespace) -> None:
    """Do all steps, and print what each did and what is left."""
    said: list[str] = []

    def say(step: str, done: str) -> None:
        said.append(done)
        print(f"  {step:<8} {done}", flush=True)

    for key in keys:
        print(key)
        if args.source:
            say("folder", write_folder(key, args.source, half=args.half))
        say("entry", enter(key, facts))
        say("golden", store_golden(key, accept=args.accept))
        say("runs", begin_runs(key))
    print(", ".join(keys))
    benchmark = read_benchmark(CHECKPOINTS)
    chosen = chosen_runs(benchmark, keys, again=args.again, sets=args.sets)
    if chosen and args.data:
        _measure(benchmark, chosen, args.data, str(chosen_device(args.device)))
        say("measured", f"{len(chosen)} runs")
    say("figures", tidy(benchmark))
    begun = [cards.begin_card(benchmark, k) for k in keys if not cards.is_begun(benchmark, k)]
    say("cards", _wrote(begun))
    say("tables", _wrote(cards.write_documents(benchmark)))
    left = left_to_do(benchmark, keys)
    if any(done != AS_IT_WAS for done in said):
        left += [
            "look at what the weights make of pairs, and say in the card what you saw",
            "add a line to CHANGELOG.md, run pytest, and commit all of it at once",
        ]
    print("\n  ".join(["left to do by hand:", *(left or ["nothing"])]))


# Steps: each says what it did ---------------------------------------------------------------------


def write_folder(key: str, source: str, *, half: bool = False) -> str:
    """Write ``checkpoints/KEY`` from a ``.ckpt`` or a model folder; a card that is there stays."""
    import torch

    model = fusionzoo.load(source)
    if model.name != split_key(key)[0]:
        raise InputError(f"{source} is of {model.name!r}, and not of {key!r}; name its own KEY")
    folder = CHECKPOINTS / key
    card = folder / weights.CARD_NAME
    text = card.read_text(encoding="utf-8") if card.is_file() else None
    before = _fingerprint(folder)
    model.save_pretrained(folder, dtype=torch.float16 if half else None, card=text)
    return AS_IT_WAS if _fingerprint(folder) == before else f"wrote {_name(folder)}"


def enter(key: str, facts: dict[str, str]) -> str:
    """Bring the entry of weights in line with their folder."""
    table = _table_with(key, facts)
    if table == TABLE.read_bytes():
        return AS_IT_WAS
    write_whole(TABLE, table)
    return f"wrote {_name(TABLE)}"


def store_golden(key: str, *, accept: bool = False) -> str:
    """Store what new weights make of a small pair; refuse another result of the same weights.

    Raises:
        InputError: today's code makes something else of the weights than the code before it.
    """
    if golden.is_of_these_weights(key):
        problem = golden.problem(key)
        if problem is None:
            return AS_IT_WAS
        if not accept:
            raise InputError(
                f"{problem}, and the weights are the same: the code has changed what they make. "
                "Put it right; or, if it is meant, look at pictures, measure --again and --accept"
            )
    return _wrote([golden.store(key)])


def begin_runs(key: str) -> str:
    """Give new weights the runs on the usual test sets of their task."""
    path = CHECKPOINTS / key / RUNS_NAME
    if path.is_file():
        return AS_IT_WAS
    task = MODELS[split_key(key)[0]].task_of(key)
    usual = read_benchmark(CHECKPOINTS).usual_sets
    check_choice(f"usual_sets of {CHECKPOINTS / RUNS_NAME}: task", task, usual)
    write_whole(path, f"runs:\n  - sets: [{', '.join(usual[task])}]\n".encode())
    return _wrote([path])


def tidy(benchmark: Benchmark) -> str:
    """Bring order and printed values of ``results.csv`` in line with the benchmark."""
    text = tidied(benchmark, read_figures(benchmark.results))
    if benchmark.results.is_file() and text == benchmark.results.read_text(encoding="utf-8"):
        return AS_IT_WAS
    write_whole(benchmark.results, text.encode())
    return _wrote([benchmark.results])


def left_to_do(benchmark: Benchmark, keys: Sequence[str]) -> list[str]:
    """What is not done yet and no step does: measuring without data, pictures and prose."""
    lines = []
    if missing := chosen_runs(benchmark, keys):
        sets = ", ".join(dict.fromkeys(run.set for run in missing))
        lines.append(f"measure {len(missing)} runs: give --data, the folder that {sets} are in")
    for key in keys:
        folder = benchmark.folder / key
        if not (folder / "pairs.png").is_file():
            draw = f"python examples/grid.py {_name(folder)}/pairs.png IR VI … --model {key}"
            lines.append(f"draw the picture of the card: {draw}")
        if cards.TO_WRITE in (folder / weights.CARD_NAME).read_text(encoding="utf-8"):
            lines.append(
                f"write {_name(folder)}/{weights.CARD_NAME} where it says {cards.TO_WRITE}"
            )
    return lines


# Checks -------------------------------------------------------------------------------------------


def stale(keys: Sequence[str], *, with_golden: bool = True) -> list[str]:
    """A line for each thing that :func:`ship` would change."""
    lines = []
    benchmark = read_benchmark(CHECKPOINTS)
    for key in keys:
        if key not in weights.weights_table() or _table_with(key, {}) != TABLE.read_bytes():
            lines.append(f"{_name(TABLE)}: the entry of {key} is not that of checkpoints/{key}")
        elif with_golden and (problem := golden.problem(key)):
            lines.append(problem)
        if not cards.is_begun(benchmark, key):
            lines.append(f"checkpoints/{key}/{weights.CARD_NAME}: has no tables")
    for run, problem in stale_runs(benchmark):
        if run.model in keys:
            lines.append(
                f"{_name(benchmark.results)}: {' '.join(filter(None, run.key))}: {problem}"
            )
    figures = read_figures(benchmark.results)
    if tidied(benchmark, figures) != benchmark.results.read_text(encoding="utf-8"):
        lines.append(f"{_name(benchmark.results)}: order, printed values, or runs that are gone")
    lines += [f"{_name(path)}: tables or header" for path in cards.stale_documents(benchmark)]
    return [f"{line}; run python tools/ship.py" for line in lines]


def all_keys() -> list[str]:
    """Weights of the table, and folders that are to come into it."""
    folders = (path.parent.name for path in CHECKPOINTS.glob(f"*/{weights.WEIGHTS_NAME}"))
    return sorted({*weights.weights_table(), *folders})


def chosen_runs(
    benchmark: Benchmark,
    keys: Sequence[str],
    *,
    again: bool = False,
    sets: Sequence[str] | None = None,
) -> list[Run]:
    """The runs to measure: stale ones only, unless ``again``."""
    for name in sets or ():
        check_choice("--sets", name, benchmark.sets)
    runs = benchmark.runs if again else [run for run, _ in stale_runs(benchmark)]
    return [run for run in runs if run.model in keys and (sets is None or run.set in sets)]


# The hub ------------------------------------------------------------------------------------------


def upload(
    benchmark: Benchmark, key: str, *, token: str | bool | None = None
) -> weights.HubAddress:
    """Upload a folder of checkpoints to its place on the hub, if it is what the table says.

    Its card there has the results in its header, which the one in the repository does not repeat.

    Raises:
        InputError: no such entry, no place on the hub, or other weights or options.
        OSError: the hub refuses, or cannot be reached; a tag that is there already is not moved.
    """
    cfg = weights.weights_table().get(key)
    if cfg is None or not cfg.hub_repo or not cfg.hub_revision:
        raise InputError(f"{key!r} has no hub_repo and hub_revision in the table of weights")
    folder = benchmark.folder / key
    remedy = f"bring the table in line first: python tools/ship.py {key}"
    weights.verify(folder / weights.WEIGHTS_NAME, cfg, remedy=remedy)
    config = folder / weights.CONFIG_NAME
    weights.verify_config(weights.read_config(folder), cfg, config, remedy=remedy)
    header = cards.hub_header_of(benchmark, read_figures(benchmark.results), key)
    with tempfile.TemporaryDirectory() as temporary:
        copy = copytree(folder, Path(temporary) / key)
        card = copy / weights.CARD_NAME
        card.write_text(cards.with_header(card.read_text(encoding="utf-8"), header), "utf-8")
        message = f"{key}, fusionzoo {cfg.hub_revision}"
        return weights.upload_folder(
            copy, cfg.hub_repo, message=message, token=token, tag=cfg.hub_revision
        )


# Small things -------------------------------------------------------------------------------------


def _table_with(key: str, facts: dict[str, str]) -> bytes:
    """The table as it would be with the entry of a key made anew."""
    check_choice("KEY", split_key(key)[0], MODELS)
    folder = CHECKPOINTS / key
    if not folder.is_dir():
        raise FileError(f"{folder}: no such folder; write it with --from, or with save_pretrained")
    with tempfile.TemporaryDirectory() as temporary:
        table = Path(temporary, TABLE.name)
        table.write_bytes(TABLE.read_bytes())
        update_entry(key, folder, table=table, **facts)
        return table.read_bytes()


def _measure(benchmark: Benchmark, runs: Sequence[Run], data: Path, device: str) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")

        def show(label: str, done: int, total: int) -> None:
            bar.update(task, description=label, completed=done, total=total)

        measure(benchmark, runs, data, device=device, progress=show)


def _fingerprint(folder: Path) -> str | None:
    return weights.fingerprint(folder) if (folder / weights.WEIGHTS_NAME).is_file() else None


def _wrote(paths: Sequence[Path]) -> str:
    return f"wrote {', '.join(map(_name, paths))}" if paths else AS_IT_WAS


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/ship.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("keys", nargs="*", metavar="KEY", help="model or model.tag (default: all)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="change nothing; say what is stale")
    what.add_argument("--upload", action="store_true", help="upload the folder, with its tag")
    what.add_argument(
        "--from",
        dest="source",
        metavar="PATH",
        help=".ckpt or folder to write checkpoints/KEY from",
    )
    parser.add_argument("--half", action="store_true", help="with --from: store float16")
    data = parser.add_argument_group("figures")
    data.add_argument(
        "--data",
        type=Path,
        default=os.environ.get(DATA_VARIABLE) or None,
        metavar="DIR",
        help=f"folder of the test sets (default: {DATA_VARIABLE})",
    )
    data.add_argument("--sets", nargs="+", metavar="SET", help="measure on these test sets only")
    data.add_argument("--again", action="store_true", help="measure all runs, stale or not")
    data.add_argument(
        "--device", default="cpu", help="default: cpu, which repeats to the last digit"
    )
    parser.add_argument(
        "--accept", action="store_true", help="store another golden output of the same weights"
    )
    entry = parser.add_argument_group("facts of the entry (default: as they are)")
    for name in FACTS:
        entry.add_argument(f"--{name.replace('_', '-')}", default=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
