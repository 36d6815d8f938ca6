"""The page: what it shows, and which function answers which click. Needs Gradio."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image, ImageDraw

from fusionzoo.demo.clips import MAX_SECONDS, fuse_clip
from fusionzoo.demo.examples import ExamplePair, example_pairs
from fusionzoo.demo.pairs import FITS, NO_METRICS, Outcome, Wish, fuse_pair, preview
from fusionzoo.demo.texts import as_alert, as_notes, as_table, told
from fusionzoo.metrics import list_protocols
from fusionzoo.models import DEFAULT_MODEL
from fusionzoo.zoo import list_models

__all__ = ["CSS", "build"]

OWN = "My own files"
CSS = """
.alert { border-left: 4px solid #c62828; padding: .6em 1em; }
.metrics { border-collapse: collapse; }
.metrics th, .metrics td { padding: .2em .8em; text-align: right; }
"""
_INTRO = """# fusionzoo
Fuse an infrared with a visible image, or PET, SPECT or CT with MRI. All happens on the machine on
which `fusionzoo demo` runs. Nothing is sent anywhere, and files are deleted when it ends."""

_Points = dict[str, list[tuple[float, float]]]
_RADIUS = 5


def build(device: str, max_pixels: int) -> gr.Blocks:
    """Make the page.

    Args:
        device: where to compute.
        max_pixels: images of more pixels are refused.
    """
    examples = {pair.title: pair for pair in example_pairs()}
    keys = list_models(pretrained=True)
    with gr.Blocks(title="fusionzoo", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(_INTRO)
        with gr.Tab("Images"):
            _images(examples, keys, device, max_pixels)
        with gr.Tab("Videos"):
            _videos(keys)
    return page


def _images(
    examples: dict[str, ExamplePair], keys: list[str], device: str, max_pixels: int
) -> None:
    points = gr.State({"ir": [], "vi": []})
    shown = gr.State({})
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            titles = [*examples, OWN]
            pair = gr.Dropdown(titles, value=titles[0], label="Pair", elem_id="pair")
            ir = gr.File(label="Infrared, or PET, SPECT, CT", elem_id="ir", height=120)
            vi = gr.File(label="Visible, or MRI", elem_id="vi", height=120)
            models = gr.Dropdown(
                keys, value=[DEFAULT_MODEL], multiselect=True, label="Models", elem_id="models"
            )
            fit = gr.Radio(
                FITS, value=FITS[0], label="If the two do not match pixel on pixel", elem_id="fit"
            )
            protocol = gr.Dropdown(
                [NO_METRICS, *list_protocols()], value="cddfuse", label="Metrics, by protocol"
            )
            with gr.Accordion("Colour and values", open=False):
                color = gr.Checkbox(True, label="Keep colour")
                gr.Markdown("Values that become black and white. Empty: the file decides.")
                with gr.Row():
                    ends = [
                        gr.Number(None, label=label, min_width=90)
                        for label in ("First: black", "white", "Second: black", "white")
                    ]
            with gr.Accordion("Matching points", open=False, elem_id="points"):
                gr.Markdown(
                    "For `align by points`: click the same places in both, in the same order. Two "
                    "points or more; four or more allow for perspective."
                )
                with gr.Row():
                    show = gr.Button("Show the pair", size="sm", elem_id="show")
                    clear = gr.Button("Clear points", size="sm")
                views = {
                    "ir": gr.Image(label="First", interactive=False, type="pil", elem_id="view-ir"),
                    "vi": gr.Image(
                        label="Second", interactive=False, type="pil", elem_id="view-vi"
                    ),
                }
            button = gr.Button("Fuse", variant="primary", elem_id="fuse")
        with gr.Column(scale=2, min_width=420):
            status = gr.HTML(elem_id="status")
            with gr.Row():
                left = gr.Dropdown([], label="Left of the slider", elem_id="left")
                right = gr.Dropdown([], label="Right of the slider", elem_id="right")
            slider = gr.ImageSlider(
                label="Drag the slider", type="filepath", format="png", interactive=False,
                max_height=640, elem_id="slider", buttons=["fullscreen"],
            )  # fmt: skip
            gallery = gr.Gallery(label="All pictures", columns=3, elem_id="gallery", height=220)
            table = gr.HTML(elem_id="metrics")
            files = gr.Files(label="Results in full depth", interactive=False, elem_id="files")

    sources = [pair, ir, vi, *ends]
    results = [status, left, right, slider, table, gallery, files, shown]

    def chosen(title: str, first: str | None, second: str | None) -> tuple[Any, Any]:
        example = examples.get(title)
        return (example.ir, example.vi) if example else (first, second)

    def fuse(
        title: str,
        first: str | None,
        second: str | None,
        low: float | None,
        high: float | None,
        low_2: float | None,
        high_2: float | None,
        keys: list[str],
        fit: str,
        color: bool,
        protocol: str,
        points: _Points,
    ) -> list[Any]:
        try:
            wish = Wish(
                models=keys, fit=fit, color=color, protocol=protocol, device=device,
                ir_range=_ends(low, high), vi_range=_ends(low_2, high_2),
                ir_points=points["ir"], vi_points=points["vi"], max_pixels=max_pixels,
            )  # fmt: skip
            folder = Path(tempfile.mkdtemp(dir=_cache()))
            return _shown(fuse_pair(*chosen(title, first, second), wish, folder), folder)
        except Exception as error:
            nothing = gr.Dropdown(choices=[], value=None)
            return [as_alert(told(error)), nothing, nothing, None, "", None, None, {}]

    def views_of(
        title: str, first: str | None, second: str | None, *ends: float | None
    ) -> list[Any]:
        empty: _Points = {"ir": [], "vi": []}
        try:
            ranges = _ends(*ends[:2]), _ends(*ends[2:])
            both = zip(chosen(title, first, second), ranges, strict=True)
            return [*(preview(file, given, max_pixels) for file, given in both), empty, ""]
        except Exception as error:
            return [None, None, empty, as_alert(told(error))]

    button.click(
        fuse, [*sources, models, fit, color, protocol, points], results,
        concurrency_limit=1, api_visibility="private",
    )  # fmt: skip
    for end in (left, right):
        end.input(_pick, [left, right, shown], slider, api_visibility="private")
    pair.input(
        lambda title: [examples[title].model] if title in examples else gr.skip(),
        pair, models, api_visibility="private",
    )  # fmt: skip
    for file in (ir, vi):
        file.upload(lambda: OWN, None, pair, api_visibility="private")
    for which in (show, clear):
        which.click(views_of, sources, [*views.values(), points, status], api_visibility="private")
    for side, view in views.items():
        view.select(_clicks(side), [view, points], [view, points], api_visibility="private")


def _videos(keys: list[str]) -> None:
    gr.Markdown(
        f"The first {MAX_SECONDS:g} seconds are fused; the command `fusionzoo fuse` fuses all."
    )
    with gr.Row():
        ir, vi = gr.File(label="Infrared video"), gr.File(label="Visible video")
    key = gr.Dropdown(keys, value=DEFAULT_MODEL, label="Model")
    aligned = gr.Checkbox(False, label="Align, by the first frames")
    button = gr.Button("Fuse the videos", variant="primary")
    status = gr.HTML()
    video = gr.Video(label="Fused", interactive=False)

    def fuse(ir: str | None, vi: str | None, key: str, aligned: bool) -> tuple[Any, Any]:
        try:
            folder = Path(tempfile.mkdtemp(dir=_cache()))
            return "", fuse_clip(ir, vi, key, aligned, folder)
        except Exception as error:
            return as_alert(told(error)), None

    button.click(
        fuse, [ir, vi, key, aligned], [status, video],
        concurrency_limit=1, api_visibility="private",
    )  # fmt: skip


def _cache() -> str:
    """Where the page keeps files: what ``serve`` deletes when it ends."""
    from gradio.utils import get_upload_folder

    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _ends(low: float | None, high: float | None) -> tuple[float, float] | None:
    if low is None and high is None:
        return None
    nan = float("nan")  # one of the two alone is refused with a reason
    return nan if low is None else low, nan if high is None else high


def _shown(outcome: Outcome, folder: Path) -> list[Any]:
    paths = {}
    for number, (name, picture) in enumerate(outcome.pictures.items()):
        paths[name] = str(folder / f"shown_{number}.png")
        picture.save(paths[name])
    names = list(paths)
    left, right = names[1], names[2]
    return [
        as_notes(outcome.notes),
        gr.Dropdown(choices=names, value=left),
        gr.Dropdown(choices=names, value=right),
        (paths[left], paths[right]),
        as_table(outcome.values, outcome.higher_is_better),
        [(path, name) for name, path in paths.items()],
        [str(path) for path in outcome.files.values()],
        paths,
    ]


def _pick(left: str | None, right: str | None, paths: dict[str, str]) -> Any:
    return (paths[left], paths[right]) if left in paths and right in paths else None


def _clicks(side: str) -> Callable[..., tuple[Image.Image, _Points]]:
    def clicked(
        view: Image.Image, points: _Points, event: gr.SelectData
    ) -> tuple[Image.Image, _Points]:
        x, y = event.index
        points[side].append((float(x), float(y)))
        return _marked(view, (x, y), len(points[side])), points

    return clicked


def _marked(view: Image.Image, point: tuple[float, float], number: int) -> Image.Image:
    marked = view.convert("RGB")
    pen = ImageDraw.Draw(marked)
    x, y = point
    pen.ellipse((x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS), outline="yellow", width=2)
    pen.text((x + _RADIUS + 2, y - _RADIUS - 2), str(number), fill="yellow")
    return marked
